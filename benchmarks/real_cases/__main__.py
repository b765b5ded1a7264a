"""python -m benchmarks.real_cases: judge everything, print tables and write them into docs/real-cases.md."""

from pathlib import Path

from benchmarks.real_cases import report
from benchmarks.real_cases.cases import cases

PAGE = Path(__file__).parents[2] / "docs" / "real-cases.md"
BEGIN, END = "<!-- written by python -m benchmarks.real_cases -->\n", "<!-- to here -->\n"


def main() -> None:
    everything = list(report.found(cases()))
    parts = [
        report.summary(everything),
        report.verdicts(everything),
        report.beside_kayenta(),
        report.beside_argo(),
        [report.ceiling()],
    ]
    text = "\n\n".join("\n".join(lines) for lines in parts) + "\n"
    print(text)
    before, rest = PAGE.read_text().split(BEGIN)
    _, after = rest.split(END)
    PAGE.write_text(f"{before}{BEGIN}\n{text}\n{END}{after}")


if __name__ == "__main__":
    main()

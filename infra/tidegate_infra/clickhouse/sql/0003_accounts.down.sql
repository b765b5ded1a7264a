DROP TABLE IF EXISTS log_losses;
DROP TABLE IF EXISTS producer_reports;
DROP TABLE IF EXISTS duplicates;
DROP TABLE IF EXISTS dead_letters;

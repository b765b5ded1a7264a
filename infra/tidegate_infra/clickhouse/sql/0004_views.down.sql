DROP VIEW IF EXISTS windows_between;
DROP VIEW IF EXISTS commands_answered;
DROP VIEW IF EXISTS feedback_given;
DROP VIEW IF EXISTS current_deployments;
DROP VIEW IF EXISTS variant_health;
DROP VIEW IF EXISTS usage_by_hour;

DROP TABLE IF EXISTS drift_events;
DROP TABLE IF EXISTS alerts;
DROP TABLE IF EXISTS rollout_progress;
DROP TABLE IF EXISTS deployment_status;
DROP TABLE IF EXISTS deployment_commands;
DROP TABLE IF EXISTS window_metrics;

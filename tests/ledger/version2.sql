CREATE TABLE carbon_decisions (
    id INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
    run BIGINT NOT NULL,
    cluster VARCHAR(255) NOT NULL,
    job_id BIGINT NOT NULL,
    tasks TEXT NOT NULL,
    decided_epoch_s BIGINT NOT NULL,
    from_location TEXT NOT NULL,
    from_epoch_s BIGINT NOT NULL,
    to_location TEXT NOT NULL,
    to_epoch_s BIGINT NOT NULL,
    saved_g DOUBLE NOT NULL,
    reason TEXT NOT NULL,
    outcome TEXT NOT NULL
);
CREATE INDEX carbon_decisions_decided ON carbon_decisions (decided_epoch_s);
CREATE INDEX carbon_decisions_job ON carbon_decisions (cluster, job_id);
CREATE TABLE carbon_entries (
    cluster VARCHAR(255) NOT NULL,
    job_id BIGINT NOT NULL,
    submit_epoch_s BIGINT NOT NULL,
    user TEXT NOT NULL,
    location TEXT NOT NULL,
    home TEXT NOT NULL,
    begin_epoch_s BIGINT NOT NULL,
    latest_epoch_s BIGINT NOT NULL,
    may TEXT NOT NULL,
    mark_id TEXT NOT NULL,
    locations TEXT NOT NULL,
    baseline_g DOUBLE NOT NULL,
    planned_g DOUBLE NOT NULL,
    energy_kwh DOUBLE NOT NULL,
    forecast TEXT NOT NULL,
    moves BIGINT NOT NULL,
    moved_epoch_s BIGINT NOT NULL,
    follows TEXT NOT NULL,
    late BOOLEAN NOT NULL,
    started_epoch_s BIGINT,
    ended_epoch_s BIGINT,
    state TEXT NOT NULL,
    used_kwh DOUBLE,
    emitted_g DOUBLE,
    PRIMARY KEY (cluster, job_id, submit_epoch_s)
);
CREATE INDEX carbon_entries_ended ON carbon_entries (ended_epoch_s);
CREATE TABLE carbon_runs (
    id INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
    started_epoch_s BIGINT NOT NULL,
    mode TEXT NOT NULL,
    ended_epoch_s BIGINT,
    figures TEXT NOT NULL
);
CREATE INDEX carbon_runs_started ON carbon_runs (started_epoch_s);
CREATE TABLE carbon_schema (
    id BIGINT NOT NULL,
    version BIGINT NOT NULL,
    PRIMARY KEY (id)
);
CREATE TABLE carbon_transfers (
    id VARCHAR(255) NOT NULL,
    cluster VARCHAR(255) NOT NULL,
    job_id BIGINT NOT NULL,
    submit_epoch_s BIGINT NOT NULL,
    user TEXT NOT NULL,
    uid BIGINT NOT NULL,
    mark_id TEXT NOT NULL,
    to_location TEXT NOT NULL,
    begin_epoch_s BIGINT NOT NULL,
    latest_epoch_s BIGINT NOT NULL,
    comment TEXT NOT NULL,
    source_comment TEXT NOT NULL,
    state VARCHAR(255) NOT NULL,
    created_epoch_s BIGINT NOT NULL,
    changed_epoch_s BIGINT NOT NULL,
    asked_epoch_s BIGINT NOT NULL,
    target_id BIGINT NOT NULL,
    note TEXT NOT NULL,
    target_submit_epoch_s BIGINT NOT NULL,
    PRIMARY KEY (id)
);
CREATE INDEX carbon_transfers_source ON carbon_transfers (cluster, job_id);
CREATE INDEX carbon_transfers_state ON carbon_transfers (state);
CREATE INDEX carbon_transfers_target ON carbon_transfers (target_id);

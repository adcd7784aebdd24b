//! Embeds `sql/` in the order of its numbers, after the library's own functions.
//!
//! A block's name is its file's stem. The first block is the bootstrap: roles are made before anything else. Each further block requires the one before; the
//! second requires every function of the library, so that all blocks after it can call them.

use pgrx::extension_sql_file;

extension_sql_file!("../../sql/010_roles.sql", bootstrap);
extension_sql_file!(
    "../../sql/020_tables.sql",
    requires = [
        "010_roles",
        actor::_actor,
        clock::_now,
        clock::_set_now,
        clock::_next_xid,
        cron::_cron_problem,
        cron::_cron_times,
        cron::_last_cron,
        cron::_next_cron,
        domain_events::_is_event_pattern,
        domain_events::_event_matches,
        domain_events::_redelivery_delay_ms,
        engine::access::_checked_namespace,
        engine::evaluate::_evaluate,
        engine::evaluate::_evaluate_outcomes,
        engine::fail::_time_out,
        engine::fail::_end_leases,
        engine::fail::_cancel_steps,
        engine::fail::_cancel_instances,
        engine::compensation::_compensate,
        engine::repair::_repair_step,
        engine::repair::_rerun_steps,
        engine::start::_start_after_all,
        engine::start::_start_tasks,
        engine::waits::_fire_timers,
        engine::waits::_end_waits,
        event_notices::_announce_events,
        existence::_is_dynamic,
        existence::_definition_number,
        existence::_instance_of,
        existence::_is_compensation,
        existence::_has_compensations,
        existence::_tolerates_failure,
        existence::_decisions,
        existence::_uncertain_steps,
        existence::_steps_before,
        existence::_expected_remaining,
        graph::_template_nodes,
        graph::_step_definitions,
        graph::_handler_of,
        graph::_dependencies,
        graph::_steps_behind,
        graph::_satisfies_dependents,
        histogram::_histogram,
        histogram::_sum_histograms,
        histogram::_percentile,
        keys::_task_uuids,
        keys::_first_task_uuid,
        keys::_step_uuid,
        keys::_last_step_uuid,
        keys::_task_of,
        keys::_number_of,
        lifecycle::_clock_limits,
        lifecycle::_has_clocks,
        namespace_grants::_act_for,
        namespace_grants::_may,
        namespace_grants::_namespace_problem,
        namespace_grants::_open_namespaces,
        payloads::_context_problem,
        payloads::_payload_problem,
        queue::message::_hidden_until,
        payloads::_result_problem,
        queue::_queue_send,
        queue::_queue_set_visible_at,
        queue::_queue_delete,
        queue::_queue_missing,
        queue::_queue_due_at,
        served_caller::_author,
        served_caller::_is_limited,
        served_caller::_permissions_problem,
        served_caller::_serve_caller,
        settings::_max_batch,
        settings::_max_depth,
        settings::_partition_days,
        settings::_retention_days,
        settings::_statistics_days,
        settings::_domain_event_days,
        settings::_export_function,
        settings::_sql_timeout,
        settings::_sql_runners,
        sql_call::_call_confined,
        sql_call::_sql_step_ran_out,
        sql_call::_is_in_sql_step,
        sql_call::_session_began_at,
        states::_next_task_state,
        states::_unroll_task,
        states::_unroll_step,
        states::_task_path,
        states::_is_terminal,
        states::_counts_running,
        templates::_check_template,
        templates::_compile_template,
        waits::_signal_steps,
        waits::_wait_of,
        waits::_signal_problem,
        waits::_child_of,
    ]
);
extension_sql_file!("../../sql/030_types.sql", requires = ["020_tables"]);
extension_sql_file!("../../sql/040_errors.sql", requires = ["030_types"]);
extension_sql_file!("../../sql/050_partitions.sql", requires = ["040_errors"]);
extension_sql_file!("../../sql/100_queues.sql", requires = ["050_partitions"]);
extension_sql_file!(
    "../../sql/110_namespace_grants.sql",
    requires = ["100_queues"]
);
extension_sql_file!(
    "../../sql/200_templates.sql",
    requires = ["110_namespace_grants"]
);
extension_sql_file!(
    "../../sql/300_create.sql",
    requires = [
        "200_templates",
        engine::create::_create_tasks,
        engine::create::_create_children
    ]
);
extension_sql_file!("../../sql/400_failures.sql", requires = ["300_create"]);
extension_sql_file!(
    "../../sql/510_claim.sql",
    requires = [
        "400_failures",
        engine::claim::_claim,
        engine::finish::_finish
    ]
);
extension_sql_file!("../../sql/520_finish.sql", requires = ["510_claim"]);
extension_sql_file!("../../sql/530_leases.sql", requires = ["520_finish"]);
extension_sql_file!("../../sql/535_checkpoints.sql", requires = ["530_leases"]);
extension_sql_file!("../../sql/540_workers.sql", requires = ["535_checkpoints"]);
extension_sql_file!(
    "../../sql/550_domain_events.sql",
    requires = ["540_workers"]
);
extension_sql_file!(
    "../../sql/555_event_deliveries.sql",
    requires = ["550_domain_events"]
);
extension_sql_file!(
    "../../sql/600_cancel.sql",
    requires = ["555_event_deliveries"]
);
extension_sql_file!("../../sql/603_repair.sql", requires = ["600_cancel"]);
extension_sql_file!("../../sql/605_pauses.sql", requires = ["603_repair"]);
extension_sql_file!("../../sql/607_existence.sql", requires = ["605_pauses"]);
extension_sql_file!("../../sql/608_waits.sql", requires = ["607_existence"]);
extension_sql_file!("../../sql/610_read_tasks.sql", requires = ["608_waits"]);
extension_sql_file!(
    "../../sql/620_read_history.sql",
    requires = ["610_read_tasks"]
);
extension_sql_file!(
    "../../sql/630_dead_letters.sql",
    requires = ["620_read_history"]
);
extension_sql_file!(
    "../../sql/635_stale_tasks.sql",
    requires = ["630_dead_letters"]
);
extension_sql_file!("../../sql/640_events.sql", requires = ["635_stale_tasks"]);
extension_sql_file!("../../sql/650_namespaces.sql", requires = ["640_events"]);
extension_sql_file!(
    "../../sql/655_read_domain_events.sql",
    requires = ["650_namespaces"]
);
extension_sql_file!(
    "../../sql/660_explain.sql",
    requires = ["655_read_domain_events"]
);
extension_sql_file!(
    "../../sql/670_fold_statistics.sql",
    requires = ["660_explain"]
);
extension_sql_file!(
    "../../sql/675_statistics.sql",
    requires = ["670_fold_statistics"]
);
extension_sql_file!("../../sql/680_schedules.sql", requires = ["675_statistics"]);
extension_sql_file!(
    "../../sql/685_run_schedules.sql",
    requires = ["680_schedules"]
);
extension_sql_file!(
    "../../sql/687_sql_steps.sql",
    requires = [
        "685_run_schedules",
        engine::sql_steps::_claim_sql,
        engine::sql_steps::_show_step
    ]
);
extension_sql_file!("../../sql/690_bulk.sql", requires = ["687_sql_steps"]);
extension_sql_file!("../../sql/695_children.sql", requires = ["690_bulk"]);
extension_sql_file!("../../sql/697_callers.sql", requires = ["695_children"]);
extension_sql_file!("../../sql/700_maintenance.sql", requires = ["697_callers"]);
extension_sql_file!(
    "../../sql/705_lifecycle.sql",
    requires = ["700_maintenance"]
);
extension_sql_file!("../../sql/708_retention.sql", requires = ["705_lifecycle"]);
extension_sql_file!("../../sql/709_rounds.sql", requires = ["708_retention"]);
extension_sql_file!("../../sql/710_verify.sql", requires = ["709_rounds"]);
extension_sql_file!("../../sql/720_status.sql", requires = ["710_verify"]);
extension_sql_file!("../../sql/900_grants.sql", requires = ["720_status"]);
extension_sql_file!("../../sql/910_plans.sql", requires = ["900_grants"]);

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
        crate::actor::_actor,
        crate::clock::_now,
        crate::clock::_set_now,
        crate::graph::_template_steps,
        crate::graph::_template_nodes,
        crate::graph::_step_definitions,
        crate::graph::_handler_of,
        crate::graph::_dependents,
        crate::graph::_dependencies,
        crate::graph::_retry_delay_ms,
        crate::graph::_satisfies_dependents,
        crate::keys::_task_uuids,
        crate::keys::_step_uuid,
        crate::keys::_last_step_uuid,
        crate::keys::_task_of,
        crate::keys::_number_of,
        crate::payloads::_context_problem,
        crate::payloads::_result_problem,
        crate::queue::_queue_send,
        crate::queue::_queue_read,
        crate::queue::_queue_set_visible_at,
        crate::queue::_queue_delete,
        crate::queue::_queue_missing,
        crate::queue::_queue_due_at,
        crate::settings::_max_payload_bytes,
        crate::settings::_max_batch,
        crate::states::_next_task_state,
        crate::states::_is_task_path,
        crate::states::_is_step_path,
        crate::templates::_check_template,
        crate::templates::_compile_template,
    ]
);
extension_sql_file!("../../sql/030_types.sql", requires = ["020_tables"]);
extension_sql_file!("../../sql/040_errors.sql", requires = ["030_types"]);
extension_sql_file!("../../sql/100_queues.sql", requires = ["040_errors"]);
extension_sql_file!("../../sql/200_templates.sql", requires = ["100_queues"]);
extension_sql_file!("../../sql/300_create.sql", requires = ["200_templates"]);
extension_sql_file!("../../sql/400_tasks_advance.sql", requires = ["300_create"]);
extension_sql_file!("../../sql/410_settle.sql", requires = ["400_tasks_advance"]);
extension_sql_file!("../../sql/500_claim_rows.sql", requires = ["410_settle"]);
extension_sql_file!("../../sql/510_claim.sql", requires = ["500_claim_rows"]);
extension_sql_file!("../../sql/520_finish.sql", requires = ["510_claim"]);
extension_sql_file!("../../sql/530_leases.sql", requires = ["520_finish"]);
extension_sql_file!("../../sql/600_cancel.sql", requires = ["530_leases"]);
extension_sql_file!("../../sql/610_read_tasks.sql", requires = ["600_cancel"]);
extension_sql_file!("../../sql/620_read_history.sql", requires = ["610_read_tasks"]);
extension_sql_file!("../../sql/700_maintenance.sql", requires = ["620_read_history"]);
extension_sql_file!("../../sql/710_verify.sql", requires = ["700_maintenance"]);
extension_sql_file!("../../sql/720_status.sql", requires = ["710_verify"]);
extension_sql_file!("../../sql/900_grants.sql", requires = ["720_status"]);
extension_sql_file!("../../sql/910_plans.sql", requires = ["900_grants"]);

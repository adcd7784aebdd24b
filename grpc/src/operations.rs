//! Which operation each method is. REST and gRPC are the same operations; what one needs of its caller is said once, in the OpenAPI document.

/// What a method is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operation {
    /// The operation of REST with this id, whose permission it needs.
    Rest(&'static str),
    /// One that REST has not, with the permission that it needs.
    Own(&'static str),
}

/// What workers need that come through the server.
pub const WORK: &str = "workers:work";

/// Operations of REST without a method, each with the reason.
pub const ONLY_REST: [(&str, &str); 1] = [("metrics", "Prometheus reads its text over HTTP")];

use Operation::{Own, Rest};

/// Each method by its path on the wire.
pub const OPERATIONS: [(&str, Operation); 73] = [
    ("/tasker.v1.TaskService/CreateTask", Rest("create_task")),
    ("/tasker.v1.TaskService/CreateTasks", Rest("create_tasks")),
    ("/tasker.v1.TaskService/GetTask", Rest("get_task")),
    ("/tasker.v1.TaskService/ListTasks", Rest("list_tasks")),
    ("/tasker.v1.TaskService/CancelTask", Rest("cancel_task")),
    ("/tasker.v1.TaskService/PauseTask", Rest("pause_task")),
    ("/tasker.v1.TaskService/ResumeTask", Rest("resume_task")),
    ("/tasker.v1.TaskService/RerunTask", Rest("rerun_task")),
    ("/tasker.v1.TaskService/ExplainTask", Rest("explain_task")),
    ("/tasker.v1.TaskService/GetTaskGraph", Rest("task_graph")),
    (
        "/tasker.v1.TaskService/GetTaskHistory",
        Rest("task_history"),
    ),
    (
        "/tasker.v1.TaskService/ListCompensations",
        Rest("list_compensations"),
    ),
    ("/tasker.v1.TaskService/SendSignal", Rest("send_signal")),
    ("/tasker.v1.TaskService/ListSignals", Rest("list_signals")),
    (
        "/tasker.v1.TaskService/ApplyToTasks",
        Rest("apply_to_tasks"),
    ),
    (
        "/tasker.v1.TaskService/ListBulkJobs",
        Rest("list_bulk_jobs"),
    ),
    (
        "/tasker.v1.TaskService/CancelBulkJob",
        Rest("cancel_bulk_job"),
    ),
    (
        "/tasker.v1.TaskService/StreamTaskEvents",
        Rest("list_task_events"),
    ),
    ("/tasker.v1.TaskService/StreamEvents", Rest("list_events")),
    ("/tasker.v1.StepService/ListSteps", Rest("list_steps")),
    ("/tasker.v1.StepService/GetStep", Rest("get_step")),
    (
        "/tasker.v1.StepService/GetStepHistory",
        Rest("step_history"),
    ),
    ("/tasker.v1.StepService/ResetStep", Rest("repair_step")),
    ("/tasker.v1.StepService/ResolveStep", Rest("repair_step")),
    (
        "/tasker.v1.StepService/CompleteStepManually",
        Rest("repair_step"),
    ),
    (
        "/tasker.v1.TemplateService/ListTemplates",
        Rest("list_templates"),
    ),
    (
        "/tasker.v1.TemplateService/GetTemplate",
        Rest("get_template"),
    ),
    (
        "/tasker.v1.TemplateService/RegisterTemplate",
        Rest("register_template"),
    ),
    (
        "/tasker.v1.TemplateService/ValidateTemplate",
        Rest("validate_template"),
    ),
    (
        "/tasker.v1.TemplateService/RetireTemplate",
        Rest("retire_template"),
    ),
    (
        "/tasker.v1.DlqService/ListDeadLetters",
        Rest("list_dead_letters"),
    ),
    (
        "/tasker.v1.DlqService/ListDeadLettersToInvestigate",
        Rest("list_dead_letters_to_investigate"),
    ),
    (
        "/tasker.v1.DlqService/GetDeadLetter",
        Rest("get_dead_letter"),
    ),
    (
        "/tasker.v1.DlqService/GetDeadLetterOfTask",
        Rest("get_dead_letter_of_task"),
    ),
    (
        "/tasker.v1.DlqService/OpenDeadLetter",
        Rest("open_dead_letter"),
    ),
    (
        "/tasker.v1.DlqService/ResolveDeadLetter",
        Rest("resolve_dead_letter"),
    ),
    (
        "/tasker.v1.DlqService/GetDeadLetterStats",
        Rest("dead_letter_stats"),
    ),
    ("/tasker.v1.DlqService/ListStaleTasks", Rest("stale_tasks")),
    (
        "/tasker.v1.AnalyticsService/GetStatistics",
        Rest("statistics"),
    ),
    (
        "/tasker.v1.AnalyticsService/GetSlowestStepsAndTasks",
        Rest("slowest_steps_and_tasks"),
    ),
    ("/tasker.v1.WorkerService/Register", Own(WORK)),
    ("/tasker.v1.WorkerService/Claim", Own(WORK)),
    ("/tasker.v1.WorkerService/Finish", Own(WORK)),
    ("/tasker.v1.WorkerService/Heartbeat", Own(WORK)),
    ("/tasker.v1.WorkerService/ExtendLeases", Own(WORK)),
    ("/tasker.v1.WorkerService/GetWorkDue", Own(WORK)),
    ("/tasker.v1.WorkerService/SaveCheckpoint", Own(WORK)),
    ("/tasker.v1.WorkerService/GetDependencyResults", Own(WORK)),
    ("/tasker.v1.WorkerService/ListWorkers", Rest("list_workers")),
    (
        "/tasker.v1.WorkerService/RetireWorker",
        Rest("retire_worker"),
    ),
    (
        "/tasker.v1.WorkerService/GetQueueStats",
        Rest("queue_stats"),
    ),
    (
        "/tasker.v1.DomainEventService/ListDomainEvents",
        Rest("list_domain_events"),
    ),
    (
        "/tasker.v1.DomainEventService/RedeliverDomainEvent",
        Rest("redeliver_domain_event"),
    ),
    (
        "/tasker.v1.DomainEventService/ListSubscriptions",
        Rest("list_subscriptions"),
    ),
    (
        "/tasker.v1.DomainEventService/SubscribeDomainEvents",
        Rest("subscribe_domain_events"),
    ),
    (
        "/tasker.v1.DomainEventService/UnsubscribeDomainEvents",
        Rest("unsubscribe_domain_events"),
    ),
    (
        "/tasker.v1.DomainEventService/ClaimDomainEvents",
        Rest("claim_domain_events"),
    ),
    (
        "/tasker.v1.DomainEventService/FinishDomainEvents",
        Rest("finish_domain_events"),
    ),
    (
        "/tasker.v1.ScheduleService/ListSchedules",
        Rest("list_schedules"),
    ),
    (
        "/tasker.v1.ScheduleService/CreateSchedule",
        Rest("create_schedule"),
    ),
    (
        "/tasker.v1.ScheduleService/PauseSchedule",
        Rest("pause_schedule"),
    ),
    (
        "/tasker.v1.ScheduleService/ResumeSchedule",
        Rest("resume_schedule"),
    ),
    (
        "/tasker.v1.ScheduleService/DeleteSchedule",
        Rest("delete_schedule"),
    ),
    (
        "/tasker.v1.ScheduleService/BackfillSchedule",
        Rest("backfill_schedule"),
    ),
    (
        "/tasker.v1.NamespaceService/ListNamespaces",
        Rest("list_namespaces"),
    ),
    (
        "/tasker.v1.NamespaceService/SetNamespace",
        Rest("set_namespace"),
    ),
    (
        "/tasker.v1.NamespaceService/PauseNamespace",
        Rest("pause_namespace"),
    ),
    (
        "/tasker.v1.NamespaceService/ResumeNamespace",
        Rest("resume_namespace"),
    ),
    ("/tasker.v1.HealthService/GetLiveness", Rest("live")),
    ("/tasker.v1.HealthService/GetReadiness", Rest("ready")),
    ("/tasker.v1.HealthService/GetHealth", Rest("health")),
    (
        "/tasker.v1.HealthService/GetDetailedHealth",
        Rest("health_detailed"),
    ),
    (
        "/tasker.v1.SystemService/ListSettings",
        Rest("list_settings"),
    ),
];

/// What the method at a path is; nothing where there is none.
#[must_use]
pub fn operation_of(path: &str) -> Option<Operation> {
    let found = OPERATIONS.iter().find(|(known, _)| *known == path);
    found.map(|(_, operation)| *operation)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use prost::Message;
    use prost_types::FileDescriptorSet;

    use super::*;

    #[test]
    fn every_method_is_an_operation_and_every_operation_a_method() {
        let set = FileDescriptorSet::decode(crate::DESCRIPTORS).expect("descriptors");
        let mut methods = BTreeSet::new();
        for file in &set.file {
            for service in &file.service {
                for method in &service.method {
                    let path = format!("/{}.{}/{}", file.package(), service.name(), method.name());
                    methods.insert(path);
                }
            }
        }
        let listed: BTreeSet<String> = OPERATIONS
            .iter()
            .map(|(path, _)| (*path).to_owned())
            .collect();
        assert_eq!(listed, methods);
        assert_eq!(OPERATIONS.len(), methods.len());
    }
}

//! Requests for tasks, read from JSON, and the checks of their own values. Nothing is looked up here.

use pgrx::pg_sys::{self, TimestampTz};

use crate::error::Error;
use crate::payloads;
use crate::statements::{Session, Statement};
use crate::values::Json;

/// One request of `create_task` or `create_tasks`.
pub(super) struct Request {
    pub(super) template_name: String,
    pub(super) namespace: String,
    pub(super) context: Json,
    pub(super) version: Option<String>,
    pub(super) idempotency_key: Option<String>,
    pub(super) priority: i32,
    pub(super) run_at: Option<TimestampTz>,
    pub(super) correlation_id: Option<u128>,
    pub(super) parent_correlation_id: Option<u128>,
    /// An array of texts.
    pub(super) tags: Option<Json>,
    pub(super) initiator: Option<String>,
    pub(super) source_system: Option<String>,
    pub(super) reason: Option<String>,
    /// Of a child task, its parent's.
    pub(super) traceparent: Option<String>,
}

const READ: Statement = Statement {
    name: "read_requests",
    text: "select r.value ->> 'template_name', coalesce(r.value ->> 'namespace', 'default'), r.value -> 'context', r.value ->> 'version',
             r.value ->> 'idempotency_key', coalesce((r.value ->> 'priority')::pg_catalog.int4, 0), (r.value ->> 'run_at')::pg_catalog.timestamptz,
             (r.value ->> 'correlation_id')::pg_catalog.uuid, (r.value ->> 'parent_correlation_id')::pg_catalog.uuid,
             case when pg_catalog.jsonb_typeof(r.value -> 'tags') = 'array' then
               (select pg_catalog.to_jsonb(pg_catalog.array_agg(t.tag order by t.ordinal))
                from pg_catalog.jsonb_array_elements_text(r.value -> 'tags') with ordinality t(tag, ordinal)) end,
             r.value ->> 'initiator', r.value ->> 'source_system', r.value ->> 'reason', pg_catalog.jsonb_typeof(r.value -> 'context'),
             pg_catalog.jsonb_typeof(r.value -> 'tags'), r.value ->> 'traceparent'
           from {}($1) r(value)",
    rows: None,
    parameters: &[pg_sys::JSONBOID],
};

/// Reads a JSON array of requests; it holds objects with known fields. Raises 22023 and TK022.
pub(super) fn read(session: &Session, requests: Json) -> Result<Vec<Request>, Error> {
    let mut ordinal = 0;
    session.rows(
        &READ,
        "pg_catalog.jsonb_array_elements",
        &[requests.into()],
        |row| {
            ordinal += 1;
            let owned = |column| row.optional_text(column).map(str::to_owned);
            let Some(template_name) = owned(0) else {
                let message = format!("request {ordinal} names no template");
                return Err(Error::refused(
                    "22023",
                    message,
                    None,
                    Some("Give template_name."),
                ));
            };
            if !matches!(row.optional_text(14), None | Some("null" | "array")) {
                let message = format!("the tags of request {ordinal} must be a list of texts");
                let hint = "Give a list, such as [\"urgent\"].";
                return Err(Error::refused("22023", message, None, Some(hint)));
            }
            let request = Request {
                template_name,
                namespace: row.text(1).to_owned(),
                context: row.json(2).unwrap_or_else(|| Json::parse(c"{}")),
                version: owned(3),
                idempotency_key: owned(4),
                priority: row.int4(5),
                run_at: row.optional_time(6),
                correlation_id: row.optional_uuid(7),
                parent_correlation_id: row.optional_uuid(8),
                tags: row.json(9),
                initiator: owned(10),
                source_system: owned(11),
                reason: owned(12),
                traceparent: owned(15),
            };
            check(ordinal, &request, row.optional_text(13))?;
            Ok(request)
        },
    )
}

fn check(ordinal: usize, request: &Request, context_type: Option<&str>) -> Result<(), Error> {
    if !request.context.is_object() {
        let message = format!(
            "the context of request {ordinal} must be a JSON object, not {}",
            context_type.unwrap_or("null")
        );
        return Err(Error::refused(
            "22023",
            message,
            None,
            Some("Wrap the value: {\"value\": …}."),
        ));
    }
    if let Some(problem) = payloads::exceeded_limit(request.context) {
        let message = format!("the context of request {ordinal} {problem}");
        let hint = "Keep large data elsewhere and pass a reference to it, or raise tasker.max_payload_bytes or tasker.max_payload_depth.";
        return Err(Error::refused("TK022", message, None, Some(hint)));
    }
    let key_length = request
        .idempotency_key
        .as_ref()
        .map(|key| key.chars().count());
    if key_length.is_some_and(|length| !(1..=500).contains(&length)) {
        let message =
            format!("the idempotency_key of request {ordinal} must have 1 to 500 characters");
        return Err(Error::refused("22023", message, None, None));
    }
    if !(-100..=100).contains(&request.priority) {
        let message = format!(
            "the priority of request {ordinal} must be between -100 and 100, not {}",
            request.priority
        );
        return Err(Error::refused("22023", message, None, None));
    }
    Ok(())
}

//! The statements on a queue's table. `{}` is the table; its columns are PGMQ's.
//!
//! A queue that was vacuumed while it was empty counts as empty for the planner, which then reads all of it to join it with the messages given. So each statement also names their ids by
//! `= any`: whichever side the planner begins with, it reads those only.

use pgrx::pg_sys;

use crate::statements::Statement;

macro_rules! is_for {
    ($handlers:literal) => {
        concat!(
            "(",
            $handlers,
            " is null or m.message ->> 'handler' = any (",
            $handlers,
            "))"
        )
    };
}

/// A message's priority, as the index on priorities has it.
macro_rules! priority {
    () => {
        "(case when m.message ->> 'priority' ~ '^-?[0-9]{1,9}$' then (m.message ->> 'priority')::pg_catalog.int4 end)"
    };
}

/// Messages of one side of zero, by priority and then by age.
macro_rules! read_prioritised {
    ($side:literal) => {
        concat!(
            "select m.msg_id, m.vt, m.message from (select m.msg_id, m.vt, m.message from {} m where m.message ->> 'priority' <> '0' and ",
            priority!(),
            " ",
            $side,
            " 0 and m.vt <= $1 and ",
            is_for!("$2"),
            " order by ",
            priority!(),
            " desc, m.vt limit $3 for update skip locked) m"
        )
    };
}

/// The namespace of a read isn't paused; looked up once a read.
macro_rules! not_paused {
    () => {
        "(select n.paused_at is null from tasker.namespaces n where n.name = $5)"
    };
}

const READ_PARAMETERS: &[pg_sys::Oid] = &[
    pg_sys::TIMESTAMPTZOID,
    pg_sys::TEXTARRAYOID,
    pg_sys::INT4OID,
    pg_sys::TIMESTAMPTZOID,
    pg_sys::TEXTOID,
];

pub(super) const SEND: Statement = Statement {
    name: "queue_send",
    text: "insert into {} (vt, message)
           select s.vt, s.message from rows from (pg_catalog.unnest($1), pg_catalog.unnest($2)) s(vt, message)
           returning msg_id",
    rows: None,
    parameters: &[pg_sys::TIMESTAMPTZARRAYOID, pg_sys::JSONBARRAYOID],
};

macro_rules! any_prioritised {
    () => {
        concat!(
            "select 1 from {} m where m.message ->> 'priority' <> '0' order by ",
            priority!(),
            " desc, m.vt limit 1"
        )
    };
}

/// Most queues never hold one, and are read by age then.
pub(super) const ANY_PRIORITISED: Statement = Statement {
    name: "queue_any_prioritised",
    text: any_prioritised!(),
    rows: None,
    parameters: &[],
};

/// The same, and since when the namespace is paused: all that a hand-over asks of a queue, in one statement.
pub(super) const STANDING: Statement = Statement {
    name: "queue_standing",
    text: concat!(
        "select (",
        any_prioritised!(),
        "), n.paused_at from tasker.namespaces n where n.name = $1"
    ),
    rows: None,
    parameters: &[pg_sys::TEXTOID],
};

pub(super) const READ_BY_PRIORITY: Statement = Statement {
    name: "queue_read_by_priority",
    text: concat!(
        "select m.msg_id, m.message ->> 'step_uuid', coalesce(",
        priority!(),
        ", 0), m.vt from (",
        read_prioritised!(">"),
        " union all select m.msg_id, m.vt, m.message from (select m.msg_id, m.vt, m.message from {} m where coalesce(m.message ->> 'priority', '0') = '0' and m.vt >= $4 and m.vt <= $1 and ",
        is_for!("$2"),
        " order by m.vt limit $3 for update skip locked) m union all ",
        read_prioritised!("<"),
        ") m where ",
        not_paused!(),
        " limit $3"
    ),
    rows: None,
    parameters: READ_PARAMETERS,
};

pub(super) const READ_OLDEST: Statement = Statement {
    name: "queue_read_oldest",
    text: concat!(
        "select m.msg_id, m.message ->> 'step_uuid', coalesce(",
        priority!(),
        ", 0), m.vt from {} m where ",
        not_paused!(),
        " and m.vt >= $4 and m.vt <= $1 and ",
        is_for!("$2"),
        " order by m.vt limit $3 for update skip locked"
    ),
    rows: None,
    parameters: READ_PARAMETERS,
};

/// A row takes another message; it is as if that were sent now.
pub(super) const REUSE: Statement = Statement {
    name: "queue_reuse",
    text: "update {} m
           set vt = s.vt, enqueued_at = $4, read_ct = 0, message = s.message
           from rows from (pg_catalog.unnest($1), pg_catalog.unnest($2), pg_catalog.unnest($3)) s(vt, message, msg_id)
           where m.msg_id = s.msg_id and m.msg_id = any ($3)
           returning m.msg_id",
    rows: None,
    parameters: &[
        pg_sys::TIMESTAMPTZARRAYOID,
        pg_sys::JSONBARRAYOID,
        pg_sys::INT8ARRAYOID,
        pg_sys::TIMESTAMPTZOID,
    ],
};

pub(super) const SET_VISIBLE_AT: Statement = Statement {
    name: "queue_set_visible_at",
    text: "update {} m set vt = s.vt, read_ct = m.read_ct + 1
           from pg_catalog.unnest($1) s where m.msg_id = s.msg_id and m.msg_id = any ($2)",
    rows: Some(c"_visibility"),
    parameters: &[pg_sys::INT8ARRAYOID],
};

pub(super) const DELETE: Statement = Statement {
    name: "queue_delete",
    text: "delete from {} m where m.msg_id = any ($1)",
    rows: None,
    parameters: &[pg_sys::INT8ARRAYOID],
};

pub(super) const MISSING: Statement = Statement {
    name: "queue_missing",
    text: "select s.msg_id from pg_catalog.unnest($1) s(msg_id) where not exists (select from {} m where m.msg_id = s.msg_id)",
    rows: None,
    parameters: &[pg_sys::INT8ARRAYOID],
};

pub(super) const DUE_AT: Statement = Statement {
    name: "queue_due_at",
    text: concat!(
        "select m.vt from {} m where m.vt >= $2 and m.vt < 'infinity' and ",
        is_for!("$1"),
        " order by m.vt limit 1"
    ),
    rows: None,
    parameters: &[pg_sys::TEXTARRAYOID, pg_sys::TIMESTAMPTZOID],
};

pub(super) const WAITING_ABOVE_ZERO: Statement = Statement {
    name: "queue_waiting_above_zero",
    text: concat!(
        "select ",
        priority!(),
        " from {} m where m.message ->> 'priority' <> '0' and ",
        priority!(),
        " > 0 and ",
        priority!(),
        " > $1 and m.vt <= $3 and ",
        is_for!("$2"),
        " order by ",
        priority!(),
        " desc, m.vt limit 1"
    ),
    rows: None,
    parameters: &[
        pg_sys::INT4OID,
        pg_sys::TEXTARRAYOID,
        pg_sys::TIMESTAMPTZOID,
    ],
};

pub(super) const WAITING_AT_ZERO: Statement = Statement {
    name: "queue_waiting_at_zero",
    text: concat!(
        "select 0 from {} m where $1 < 0 and coalesce(m.message ->> 'priority', '0') = '0' and m.vt <= $3 and ",
        is_for!("$2"),
        " order by m.vt limit 1"
    ),
    rows: None,
    parameters: &[
        pg_sys::INT4OID,
        pg_sys::TEXTARRAYOID,
        pg_sys::TIMESTAMPTZOID,
    ],
};

pub(super) const WAITING_BELOW_ZERO: Statement = Statement {
    name: "queue_waiting_below_zero",
    text: concat!(
        "select ",
        priority!(),
        " from {} m where m.message ->> 'priority' <> '0' and ",
        priority!(),
        " < 0 and ",
        priority!(),
        " > $1 and m.vt <= $3 and ",
        is_for!("$2"),
        " order by ",
        priority!(),
        " desc, m.vt limit 1"
    ),
    rows: None,
    parameters: &[
        pg_sys::INT4OID,
        pg_sys::TEXTARRAYOID,
        pg_sys::TIMESTAMPTZOID,
    ],
};

/// What keeps a queue from being there, in the words of the error.
pub(super) const MISSING_QUEUE: Statement = Statement {
    name: "queue_problem",
    text: "select p.problem[1], p.problem[2], p.problem[3], p.problem[4] from {}($1) p(problem)",
    rows: None,
    parameters: &[pg_sys::TEXTOID],
};

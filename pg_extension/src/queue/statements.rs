//! The statements on a queue's table. `{}` is the table; its columns are PGMQ's.
//!
//! A queue that was vacuumed while it was empty counts as empty for the planner, which then reads all of it to join it with the messages given. So each statement also names their ids by
//! `= any`: whichever side the planner begins with, it reads those only.

use pgrx::pg_sys;

use crate::statements::Statement;

/// Without handlers named, all but SQL functions: no worker has those.
macro_rules! is_for {
    ($handlers:literal) => {
        concat!(
            "case when ",
            $handlers,
            " is null then (m.message ->> 'handler' like 'sql:%') is not true else m.message ->> 'handler' = any (",
            $handlers,
            ") end"
        )
    };
}

/// A message's priority, as the index on priorities has it; `$kept` is the column that it is kept in.
macro_rules! priority {
    ($kept:literal) => {
        concat!(
            "(case when m.",
            $kept,
            " ->> 'priority' ~ '^-?[0-9]{1,9}$' then (m.",
            $kept,
            " ->> 'priority')::pg_catalog.int4 end)"
        )
    };
}

/// What the index on priorities holds.
macro_rules! is_prioritised {
    ($kept:literal) => {
        concat!("m.", $kept, " ->> 'priority' <> '0'")
    };
}

/// All other messages.
macro_rules! is_at_zero {
    ($kept:literal) => {
        concat!("coalesce(m.", $kept, " ->> 'priority', '0') = '0'")
    };
}

/// Messages of one side of zero, by priority and then by age.
macro_rules! read_prioritised {
    ($kept:literal, $side:literal) => {
        concat!(
            "select m.msg_id, m.message, m.priority, m.vt from (select m.msg_id, m.message, ",
            priority!($kept),
            " as priority, m.vt from {} m where ",
            is_prioritised!($kept),
            " and ",
            priority!($kept),
            " ",
            $side,
            " 0 and m.vt <= $1 and ",
            is_for!("$2"),
            " order by ",
            priority!($kept),
            " desc, m.vt limit $3 for update skip locked) m"
        )
    };
}

macro_rules! any_prioritised {
    ($kept:literal) => {
        concat!(
            "select 1 from {} m where ",
            is_prioritised!($kept),
            " order by ",
            priority!($kept),
            " desc, m.vt limit 1"
        )
    };
}

/// The highest priority of visible messages of one side of zero, where it is higher than `$1`.
macro_rules! waiting {
    ($kept:literal, $side:literal) => {
        concat!(
            "select ",
            priority!($kept),
            " from {} m where ",
            is_prioritised!($kept),
            " and ",
            priority!($kept),
            " ",
            $side,
            " 0 and ",
            priority!($kept),
            " > $1 and m.vt <= $3 and ",
            is_for!("$2"),
            " order by ",
            priority!($kept),
            " desc, m.vt limit 1"
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
    text: "insert into {} (vt, message, headers)
           select s.vt, s.message, s.headers from rows from (pg_catalog.unnest($1), pg_catalog.unnest($2), pg_catalog.unnest($3)) s(vt, message, headers)
           returning msg_id",
    rows: None,
    parameters: &[
        pg_sys::TIMESTAMPTZARRAYOID,
        pg_sys::JSONBARRAYOID,
        pg_sys::JSONBARRAYOID,
    ],
};

/// A row takes another message; it is as if that were sent now.
pub(super) const REUSE: Statement = Statement {
    name: "queue_reuse",
    text: "update {} m
           set vt = s.vt, enqueued_at = $5, read_ct = 0, message = s.message, headers = s.headers
           from rows from (pg_catalog.unnest($1), pg_catalog.unnest($2), pg_catalog.unnest($3), pg_catalog.unnest($4)) s(vt, message, headers, msg_id)
           where m.msg_id = s.msg_id and m.msg_id = any ($4)
           returning m.msg_id",
    rows: None,
    parameters: &[
        pg_sys::TIMESTAMPTZARRAYOID,
        pg_sys::JSONBARRAYOID,
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

const WAITING_PARAMETERS: &[pg_sys::Oid] = &[
    pg_sys::INT4OID,
    pg_sys::TEXTARRAYOID,
    pg_sys::TIMESTAMPTZOID,
];

/// The statements that look at priorities.
pub(super) struct ByPriority {
    /// Most queues never hold one of another priority than 0, and are read by age then.
    pub(super) any: Statement,
    /// The same, and since when the namespace is paused: all that a hand-over asks of a queue, in one statement.
    pub(super) standing: Statement,
    pub(super) read: Statement,
    pub(super) read_oldest: Statement,
    pub(super) waiting_above_zero: Statement,
    pub(super) waiting_at_zero: Statement,
    pub(super) waiting_below_zero: Statement,
}

macro_rules! by_priority {
    ($kept:literal, $edition:literal) => {
        ByPriority {
            any: Statement {
                name: concat!("queue_any_prioritised", $edition),
                text: any_prioritised!($kept),
                rows: None,
                parameters: &[],
            },
            standing: Statement {
                name: concat!("queue_standing", $edition),
                text: concat!(
                    "select (",
                    any_prioritised!($kept),
                    "), n.paused_at from tasker.namespaces n where n.name = $1"
                ),
                rows: None,
                parameters: &[pg_sys::TEXTOID],
            },
            read: Statement {
                name: concat!("queue_read_by_priority", $edition),
                text: concat!(
                    "select m.msg_id, m.message ->> 'step_uuid', m.priority, m.vt from (",
                    read_prioritised!($kept, ">"),
                    " union all select m.msg_id, m.message, 0, m.vt from (select m.msg_id, m.message, m.vt from {} m where ",
                    is_at_zero!($kept),
                    " and m.vt >= $4 and m.vt <= $1 and ",
                    is_for!("$2"),
                    " order by m.vt limit $3 for update skip locked) m union all ",
                    read_prioritised!($kept, "<"),
                    ") m where ",
                    not_paused!(),
                    " limit $3"
                ),
                rows: None,
                parameters: READ_PARAMETERS,
            },
            read_oldest: Statement {
                name: concat!("queue_read_oldest", $edition),
                text: concat!(
                    "select m.msg_id, m.message ->> 'step_uuid', coalesce(",
                    priority!($kept),
                    ", 0), m.vt from {} m where ",
                    not_paused!(),
                    " and m.vt >= $4 and m.vt <= $1 and ",
                    is_for!("$2"),
                    " order by m.vt limit $3 for update skip locked"
                ),
                rows: None,
                parameters: READ_PARAMETERS,
            },
            waiting_above_zero: Statement {
                name: concat!("queue_waiting_above_zero", $edition),
                text: waiting!($kept, ">"),
                rows: None,
                parameters: WAITING_PARAMETERS,
            },
            waiting_at_zero: Statement {
                name: concat!("queue_waiting_at_zero", $edition),
                text: concat!(
                    "select 0 from {} m where $1 < 0 and ",
                    is_at_zero!($kept),
                    " and m.vt <= $3 and ",
                    is_for!("$2"),
                    " order by m.vt limit 1"
                ),
                rows: None,
                parameters: WAITING_PARAMETERS,
            },
            waiting_below_zero: Statement {
                name: concat!("queue_waiting_below_zero", $edition),
                text: waiting!($kept, "<"),
                rows: None,
                parameters: WAITING_PARAMETERS,
            },
        }
    };
}

/// A message's priority is in its headers, where it is another than 0: a row that takes over another message changes no column of that index.
pub(super) const BY_HEADERS: ByPriority = by_priority!("headers", "");
/// The index on priorities of 0.1.0 is on the message itself.
pub(super) const BY_MESSAGE: ByPriority = by_priority!("message", "_0_1_0");

/// What keeps a queue from being there, in the words of the error.
pub(super) const MISSING_QUEUE: Statement = Statement {
    name: "queue_problem",
    text: "select p.problem[1], p.problem[2], p.problem[3], p.problem[4] from {}($1) p(problem)",
    rows: None,
    parameters: &[pg_sys::TEXTOID],
};

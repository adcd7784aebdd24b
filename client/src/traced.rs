//! The pool behind a [`Client`](crate::Client): within a trace, each statement of its is a span.

use std::ops::Deref;
use std::pin::Pin;
use std::task::{Context, Poll};

use futures_core::Stream;
use futures_core::future::BoxFuture;
use futures_core::stream::BoxStream;
use sqlx::postgres::{PgQueryResult, PgRow, PgStatement, PgTypeInfo};
use sqlx::{Describe, Either, Error, Execute, Executor, PgPool, Postgres};
use tracing::{Instrument, Span};

use crate::traces;

/// A pool whose statements show in the trace that they are a part of ([`traces::within`]). It is the pool itself otherwise.
#[derive(Debug, Clone)]
pub struct Traced(PgPool);

impl From<PgPool> for Traced {
    fn from(pool: PgPool) -> Self {
        Self(pool)
    }
}

impl Deref for Traced {
    type Target = PgPool;

    fn deref(&self) -> &PgPool {
        &self.0
    }
}

impl<'p> Executor<'p> for &'_ Traced {
    type Database = Postgres;

    fn fetch_many<'e, 'q: 'e, E>(
        self,
        query: E,
    ) -> BoxStream<'e, Result<Either<PgQueryResult, PgRow>, Error>>
    where
        'p: 'e,
        E: 'q + Execute<'q, Postgres>,
    {
        let span = span_of(query.sql());
        let rows = self.0.fetch_many(query);
        match span {
            Some(span) => Box::pin(Within { span, rows }),
            None => rows,
        }
    }

    fn fetch_optional<'e, 'q: 'e, E>(self, query: E) -> BoxFuture<'e, Result<Option<PgRow>, Error>>
    where
        'p: 'e,
        E: 'q + Execute<'q, Postgres>,
    {
        let span = span_of(query.sql());
        let row = self.0.fetch_optional(query);
        let Some(span) = span else {
            return row;
        };
        let within = span.clone();
        let noted = async move {
            let row = row.await;
            if let Err(error) = &row {
                note(&span, error);
            }
            row
        };
        Box::pin(noted.instrument(within))
    }

    fn prepare_with<'e, 'q: 'e>(
        self,
        sql: &'q str,
        parameters: &'e [PgTypeInfo],
    ) -> BoxFuture<'e, Result<PgStatement<'q>, Error>>
    where
        'p: 'e,
    {
        self.0.prepare_with(sql, parameters)
    }

    fn describe<'e, 'q: 'e>(self, sql: &'q str) -> BoxFuture<'e, Result<Describe<Postgres>, Error>>
    where
        'p: 'e,
    {
        self.0.describe(sql)
    }
}

/// The rows of a statement, which take place in its span.
struct Within<'e> {
    span: Span,
    rows: BoxStream<'e, Result<Either<PgQueryResult, PgRow>, Error>>,
}

impl Stream for Within<'_> {
    type Item = Result<Either<PgQueryResult, PgRow>, Error>;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        let next = this.span.in_scope(|| this.rows.as_mut().poll_next(context));
        if let Poll::Ready(Some(Err(error))) = &next {
            note(&this.span, error);
        }
        next
    }
}

/// The span of a statement; `None` outside of a trace, or where nobody records it.
fn span_of(sql: &str) -> Option<Span> {
    traces::current()?;
    let span = traces::statement(function_of(sql)?);
    (!span.is_disabled()).then_some(span)
}

fn note(span: &Span, error: &Error) {
    let code = error
        .as_database_error()
        .and_then(sqlx::error::DatabaseError::code);
    span.record("otel.status_code", "ERROR");
    match code {
        Some(code) => {
            span.record("db.response.status_code", &*code);
            span.record("error.type", &*code);
        }
        None => {
            span.record("error.type", "connection");
        }
    }
}

/// The function of ours that a statement calls, with its schema.
fn function_of(sql: &str) -> Option<&str> {
    let called = &sql[sql.find("tasker.")?..];
    let end = called.find('(')?;
    let is_name = |byte: u8| byte.is_ascii_lowercase() || matches!(byte, b'_' | b'.');
    called[..end].bytes().all(is_name).then_some(&called[..end])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_statement_is_named_by_the_function_that_it_calls() {
        assert_eq!(
            function_of("select a, b from tasker.create_tasks(requests => $1) order by a"),
            Some("tasker.create_tasks")
        );
        assert_eq!(function_of("select 1"), None);
        assert_eq!(function_of("select * from tasker.tasks where (true)"), None);
    }
}

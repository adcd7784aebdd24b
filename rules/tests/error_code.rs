//! The table of errors.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use tasker_rules::error_code::{ErrorCode, grpc_code_of, http_status_of, retry_after};

const TABLE: &[(&str, u16, &str)] = &[
    ("TK001", 404, "NOT_FOUND"),
    ("TK002", 404, "NOT_FOUND"),
    ("TK003", 404, "NOT_FOUND"),
    ("TK004", 404, "NOT_FOUND"),
    ("TK010", 409, "FAILED_PRECONDITION"),
    ("TK011", 409, "ABORTED"),
    ("TK012", 409, "FAILED_PRECONDITION"),
    ("TK013", 409, "ALREADY_EXISTS"),
    ("TK014", 409, "ALREADY_EXISTS"),
    ("TK015", 409, "FAILED_PRECONDITION"),
    ("TK020", 422, "INVALID_ARGUMENT"),
    ("TK021", 422, "INVALID_ARGUMENT"),
    ("TK022", 422, "INVALID_ARGUMENT"),
    ("TK030", 503, "UNAVAILABLE"),
];

#[test]
fn every_code_of_tasker_has_the_statuses_of_the_design() {
    assert_eq!(ErrorCode::ALL.len(), TABLE.len());
    for &(sqlstate, http, grpc) in TABLE {
        let code: ErrorCode = sqlstate.parse().unwrap();
        assert_eq!(
            (code.sqlstate(), code.http_status(), code.grpc_code()),
            (sqlstate, http, grpc)
        );
        assert_eq!(
            (http_status_of(sqlstate), grpc_code_of(sqlstate)),
            (http, grpc)
        );
        assert!(!code.meaning().is_empty());
        assert!(!retry_after(sqlstate));
    }
}

#[test]
fn standard_codes_have_their_statuses_too() {
    for (sqlstate, http, grpc, later) in [
        ("22023", 400, "INVALID_ARGUMENT", false),
        ("22P02", 400, "INVALID_ARGUMENT", false),
        ("42501", 403, "PERMISSION_DENIED", false),
        ("23505", 409, "ALREADY_EXISTS", false),
        ("40001", 503, "UNAVAILABLE", true),
        ("40P01", 503, "UNAVAILABLE", true),
        ("53300", 503, "UNAVAILABLE", true),
        ("57P01", 503, "UNAVAILABLE", true),
        ("57P03", 503, "UNAVAILABLE", true),
        ("08006", 503, "UNAVAILABLE", true),
        ("57014", 504, "DEADLINE_EXCEEDED", false),
        ("XX000", 500, "INTERNAL", false),
        ("TK999", 500, "INTERNAL", false),
        ("22", 500, "INTERNAL", false),
        ("", 500, "INTERNAL", false),
    ] {
        assert_eq!(
            (http_status_of(sqlstate), grpc_code_of(sqlstate)),
            (http, grpc),
            "{sqlstate}"
        );
        assert_eq!(retry_after(sqlstate), later, "{sqlstate}");
    }
}

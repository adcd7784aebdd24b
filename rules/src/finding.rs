//! What the checks of a template have to say.

use serde::{Deserialize, Serialize};

use crate::named::named_enum;

named_enum! {
    /// How grave a finding is.
    Severity, "severity" {
        /// The template is refused.
        Error = "error",
        /// The template is accepted; its author may want to look.
        Warning = "warning",
    }
}

named_enum! {
    /// The stable code of a finding.
    FindingCode, "finding code" {
        /// Steps wait for each other in a ring.
        CycleDetected = "CYCLE_DETECTED",
        /// Two steps have one name.
        DuplicateStepName = "DUPLICATE_STEP_NAME",
        /// A step waits for one that is not there.
        MissingDependency = "MISSING_DEPENDENCY",
        /// A step waits for itself.
        SelfDependency = "SELF_DEPENDENCY",
        /// A step that needs a handler names none.
        EmptyCallable = "EMPTY_CALLABLE",
        /// A name or version is not of the allowed form, or names nothing.
        NameInvalid = "NAME_INVALID",
        /// A field that is not known here.
        UnknownField = "UNKNOWN_FIELD",
        /// The document is not of the required shape, or a JSON Schema in it is not one.
        SchemaInvalid = "SCHEMA_INVALID",
        /// A branch that no decision can choose.
        UnreachableBranch = "UNREACHABLE_BRANCH",
        /// A batch without its worker step.
        BatchWorkerMissing = "BATCH_WORKER_MISSING",
        /// A map over what no dependency returns.
        MapSourceInvalid = "MAP_SOURCE_INVALID",
        /// A step type or a kind of handler that is not built.
        UnsupportedType = "UNSUPPORTED_TYPE",
        /// A SQL function that can not be the handler of a step: because of how it is declared, or of who registers the template.
        SqlHandlerRefused = "SQL_HANDLER_REFUSED",
        /// More steps than the limit allows.
        LimitExceeded = "LIMIT_EXCEEDED",
        /// A step that neither waits for another nor is waited for.
        OrphanStep = "ORPHAN_STEP",
        /// A step whose result nothing checks.
        NoResultSchema = "NO_RESULT_SCHEMA",
    }
}

impl FindingCode {
    /// How grave findings of this code are.
    #[must_use]
    pub const fn severity(self) -> Severity {
        match self {
            Self::OrphanStep | Self::NoResultSchema => Severity::Warning,
            _ => Severity::Error,
        }
    }
}

/// One thing that is wrong with a template, or worth a look.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// How grave it is; it follows from the code.
    pub severity: Severity,
    /// What kind of thing it is.
    pub code: FindingCode,
    /// Where in the document: `steps[2].retry.max_attempts`; empty for the document as a whole.
    pub path: String,
    /// What is wrong, in words.
    pub message: String,
}

impl Finding {
    /// A finding of the given code. Texts are kept free of NUL, which PostgreSQL can not hold.
    #[must_use]
    pub fn new(code: FindingCode, path: impl Into<String>, message: impl Into<String>) -> Self {
        Self {
            severity: code.severity(),
            code,
            path: without_nul(path.into()),
            message: without_nul(message.into()),
        }
    }

    /// Whether the template is refused for it.
    #[must_use]
    pub fn is_error(&self) -> bool {
        self.severity == Severity::Error
    }
}

fn without_nul(text: String) -> String {
    if text.contains('\0') {
        text.replace('\0', "\u{FFFD}")
    } else {
        text
    }
}

//! `/config`: the settings in force.

use axum::Json;
use axum::extract::State;
use serde::Serialize;
use tasker_settings::Origin;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::openapi::Refusals;
use crate::page::Page;
use crate::routes::AppState;

/// A setting in force.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Setting {
    /// Its name, as the settings file has it.
    #[schema(example = "request_timeout_seconds")]
    pub(crate) name: String,
    /// Its value, a secret masked; null when it isn't set.
    pub(crate) value: Option<String>,
    /// Where that comes from: a flag, a variable, a file, or what is built in.
    #[schema(example = "built in")]
    pub(crate) from: String,
}

pub(crate) fn routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::new().routes(routes!(list))
}

impl From<&Origin> for Setting {
    fn from(origin: &Origin) -> Self {
        Self {
            name: origin.name.clone(),
            value: origin.value.clone(),
            from: origin.from.to_string(),
        }
    }
}

/// The settings in force, each with where it comes from; secrets are masked.
#[utoipa::path(
    get,
    operation_id = "list_settings",
    path = "/config",
    tag = "system",
    responses((status = 200, description = "The settings", body = Page<Setting>), Refusals),
    extensions(("x-permission" = json!("system:config_read")))
)]
pub(crate) async fn list(State(state): State<AppState>) -> Json<Page<Setting>> {
    Json(Page::whole(
        state.origins.iter().map(Setting::from).collect(),
    ))
}

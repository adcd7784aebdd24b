//! `TemplateService`.

use serde_json::value::RawValue;
use tasker_client::Definition;
use tasker_grpc::v1::register_template_request::Definition as ToRegister;
use tasker_grpc::v1::validate_template_request::Definition as ToValidate;
use tasker_grpc::v1::{self, template_service_server::TemplateService};
use tonic::{Request, Response, Status};

use super::wire::{self, ToWire, message};
use super::{Door, service};
use crate::problem::Problem;
use crate::routes::AppState;

message!(tasker_client::TemplateSummary => TemplateSummary {
    template_uuid, namespace, name, version, description, steps_count, registered_by, registered_at, retired_at
});
message!(tasker_client::Template => Template {
    template_uuid, namespace, name, version, description, steps_count, registered_by, registered_at, retired_at, source;
    json definition => definition_json
});
message!(tasker_client::RegisteredTemplate => RegisterTemplateResponse {
    template_uuid, namespace, name, version, created
});
message!(tasker_client::Finding => Finding { severity, code, path, message });

service!(TemplateService {
    list_templates(ListTemplatesRequest) -> ListTemplatesResponse,
    get_template(GetTemplateRequest) -> Template,
    register_template(RegisterTemplateRequest) -> RegisterTemplateResponse,
    validate_template(ValidateTemplateRequest) -> ValidateTemplateResponse,
    retire_template(RetireTemplateRequest) -> RetireTemplateResponse,
});

/// A template in one of its forms, read.
enum Written {
    Yaml(String),
    Json(Box<RawValue>),
}

impl Written {
    fn json(text: String) -> Result<Self, Problem> {
        wire::json("definition_json", text).map(Self::Json)
    }

    fn definition(&self) -> Definition<'_> {
        match self {
            Self::Yaml(text) => Definition::Yaml(text),
            Self::Json(json) => Definition::Json(json),
        }
    }
}

async fn list_templates(
    state: &AppState,
    request: v1::ListTemplatesRequest,
) -> Result<v1::ListTemplatesResponse, Problem> {
    let namespace = request.namespace.as_deref();
    let items = state.client.list_templates(namespace).await?.to_wire();
    Ok(v1::ListTemplatesResponse { items })
}

async fn get_template(
    state: &AppState,
    request: v1::GetTemplateRequest,
) -> Result<v1::Template, Problem> {
    let namespace = wire::namespace(request.namespace);
    let template = state
        .client
        .get_template(&request.name, &namespace, request.version.as_deref())
        .await?;
    Ok(template.to_wire())
}

async fn register_template(
    state: &AppState,
    request: v1::RegisterTemplateRequest,
) -> Result<v1::RegisterTemplateResponse, Problem> {
    let written = match request.definition {
        Some(ToRegister::DefinitionYaml(text)) => Written::Yaml(text),
        Some(ToRegister::DefinitionJson(text)) => Written::json(text)?,
        None => return Err(wire::missing("definition_yaml or definition_json")),
    };
    let registered = state
        .client
        .register_template(written.definition(), request.environment.as_deref())
        .await?;
    Ok(registered.to_wire())
}

async fn validate_template(
    state: &AppState,
    request: v1::ValidateTemplateRequest,
) -> Result<v1::ValidateTemplateResponse, Problem> {
    let written = match request.definition {
        Some(ToValidate::DefinitionYaml(text)) => Written::Yaml(text),
        Some(ToValidate::DefinitionJson(text)) => Written::json(text)?,
        None => return Err(wire::missing("definition_yaml or definition_json")),
    };
    let findings = state
        .client
        .validate_template(written.definition(), request.environment.as_deref())
        .await?;
    Ok(v1::ValidateTemplateResponse {
        valid: findings.iter().all(|finding| finding.severity != "error"),
        findings: findings.to_wire(),
    })
}

async fn retire_template(
    state: &AppState,
    request: v1::RetireTemplateRequest,
) -> Result<v1::RetireTemplateResponse, Problem> {
    let namespace = wire::namespace(request.namespace);
    let version = Some(request.version.as_str());
    let client = &state.client;
    let retired = client
        .retire_template(&request.name, &namespace, version)
        .await?;
    let template = client
        .get_template(&request.name, &namespace, version)
        .await?;
    Ok(v1::RetireTemplateResponse {
        template: Some(template.to_wire()),
        retired,
    })
}

//! Prints the JSON Schema of templates: `cargo run -p tasker-rules --example template_schema > docs/template.schema.json`.

use std::io::Write;

fn main() -> std::io::Result<()> {
    let schema = serde_json::to_string_pretty(&tasker_rules::template::json_schema())?;
    writeln!(std::io::stdout(), "{schema}")
}

//! The JSON Schema that editors read is the one that the checks use.

use serde_json::Value;
use tasker_rules::template::json_schema;

#[test]
fn the_schema_in_the_docs_is_the_one_made_from_the_types() {
    let published: Value = serde_json::from_str(include_str!("../../docs/template.schema.json"))
        .expect("docs/template.schema.json is JSON");
    assert_eq!(
        published,
        json_schema(),
        "make it anew: cargo run -p tasker-rules --example template_schema > docs/template.schema.json"
    );
}

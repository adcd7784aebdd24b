//! The shipped SQL read as text, against what the catalogue can't tell: words left out, names that aren't qualified, statements put together, comments that say less than the code does.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use tasker_tests::TestDatabase;
use tasker_tests::tokens::{Token, tokens};

/// Functions that execute what isn't a literal or a format of `%I` and `%L`, how often, and why nothing of a caller's gets into it.
const EXECUTE_MORE: [(&str, usize, &str); 6] = [
    (
        "_export_leaving",
        1,
        "the function's name is read from the catalogue and quoted",
    ),
    (
        "_forget_domain_events",
        1,
        "the queue's name is quoted where it is read",
    ),
    (
        "_keep_dead_letters",
        1,
        "how rows are locked is one of the callers' literals",
    ),
    ("_keep_tasks", 1, "which tasks are at rest is a literal"),
    (
        "_make_partition_tables",
        2,
        "storage and indexes are literals of _partitioned_tables",
    ),
    (
        "_run_function",
        1,
        "format is named with its schema: the search path is the one that the step's function gets",
    ),
];

/// Functions whose errors their only caller catches.
const CAUGHT: [&str; 2] = ["_apply_to_task", "_take_back"];

/// A function of the schema that isn't the library's.
struct Function {
    name: String,
    body: Vec<Token>,
    comment: String,
}

async fn functions(database: &TestDatabase) -> anyhow::Result<Vec<Function>> {
    let rows: Vec<(String, String, String)> = sqlx::query_as(
        "select p.proname::text, p.prosrc, coalesce(obj_description(p.oid, 'pg_proc'), '')
         from pg_proc p join pg_language l on l.oid = p.prolang
         where p.pronamespace = 'tasker'::regnamespace and l.lanname <> 'c' order by p.oid",
    )
    .fetch_all(database.pool())
    .await?;
    assert!(rows.len() > 80, "{}", rows.len());
    let read = |(name, source, comment): (String, String, String)| Function {
        name,
        body: tokens(&source),
        comment,
    };
    Ok(rows.into_iter().map(read).collect())
}

async fn names(database: &TestDatabase, query: &str) -> anyhow::Result<BTreeSet<String>> {
    let names: Vec<String> = sqlx::query_scalar(query).fetch_all(database.pool()).await?;
    Ok(names.into_iter().collect())
}

/// The files of a folder of the project with the extension.
fn files(folder: &str, extension: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![
        Path::new(env!("CARGO_MANIFEST_DIR"))
            .parent()
            .unwrap()
            .join(folder),
    ];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|found| found == extension) {
                found.push(path);
            }
        }
    }
    found
}

/// What is wrong between `create function` and the body.
fn left_out(head: &[Token]) -> Option<&'static str> {
    let has = |words: &[&str]| {
        head.windows(words.len()).any(|some| {
            some.iter()
                .zip(words)
                .all(|(token, word)| token.word() == *word)
        })
    };
    let path = head
        .iter()
        .skip_while(|token| token.word() != "search_path")
        .map(|token| match token {
            Token::Word(word) => word.clone(),
            Token::Text(_) => "''".to_owned(),
            Token::Symbol(symbol) => symbol.to_string(),
        });
    if !["volatile", "stable", "immutable"]
        .iter()
        .any(|word| has(&[word]))
    {
        Some("its volatility")
    } else if !["safe", "restricted", "unsafe"]
        .iter()
        .any(|word| has(&["parallel", word]))
    {
        Some("its parallel safety")
    } else if path.take(5).collect::<String>() != "search_path=pg_catalog,pg_temp" {
        Some("its search path")
    } else {
        None
    }
}

#[test]
fn every_function_in_sql_states_volatility_parallel_safety_and_search_path() {
    let mut count = 0;
    for file in files("sql", "sql") {
        let found = tokens(&std::fs::read_to_string(&file).unwrap());
        for (at, _) in found.iter().enumerate().filter(|(at, token)| {
            token.word() == "function"
                && *at > 0
                && ["create", "replace"].contains(&found[at - 1].word())
        }) {
            let is_body =
                |pair: &[Token]| pair[0].word() == "as" && matches!(pair[1], Token::Text(_));
            let length = found[at..].windows(2).position(is_body).expect("a body");
            let head = &found[at..at + length];
            assert_eq!(left_out(head), None, "{}: {:?}", file.display(), &head[..4]);
            count += 1;
        }
    }
    assert!(count > 80, "{count}");
}

#[test]
fn every_function_of_the_library_states_volatility_and_parallel_safety() {
    let mut count = 0;
    for file in files("pg_extension/src", "rs") {
        let text = std::fs::read_to_string(&file).unwrap();
        for attribute in text.split("#[pg_extern").skip(1) {
            let attribute = attribute.split(")]").next().unwrap().to_lowercase();
            let states = ["volatile", "stable", "immutable"]
                .iter()
                .any(|word| attribute.contains(word))
                && (attribute.contains("parallel_") || attribute.contains("parallel "));
            assert!(states, "{}: {attribute}", file.display());
            count += 1;
        }
    }
    assert!(count > 30, "{count}");
}

/// Names of ours that are used without their schema.
fn unqualified(
    body: &[Token],
    relations: &BTreeSet<String>,
    functions: &BTreeSet<String>,
) -> Vec<String> {
    let mut found = Vec::new();
    for (at, token) in body.iter().enumerate() {
        if let Token::Text(text) = token {
            let inner = tokens(&text.replace("''", "'"));
            let verbs = [
                "select", "insert", "update", "delete", "create", "alter", "drop", "truncate",
                "grant", "revoke",
            ];
            // A message begins with a capital or with no verb.
            if verbs.iter().any(|verb| text.trim_start().starts_with(verb))
                && inner.len() < body.len()
            {
                found.extend(unqualified(&inner, relations, functions));
            }
            continue;
        }
        let word = token.word();
        let before = at.checked_sub(1).map_or("", |at| body[at].word());
        let is_qualified = at > 0 && body[at - 1].is('.');
        let next_is = |symbol| body.get(at + 1).is_some_and(|next| next.is(symbol));
        let is_relation = relations.contains(word)
            && [
                "from", "join", "update", "into", "only", "table", "truncate",
            ]
            .contains(&before);
        let is_call = functions.contains(word) && next_is('(');
        let is_cast =
            at > 1 && body[at - 1].is(':') && body[at - 2].is(':') && relations.contains(word);
        let is_private = word.starts_with('_');
        if !is_qualified && !next_is('.') && (is_relation || is_call || is_cast || is_private) {
            found.push(word.to_owned());
        }
    }
    found
}

#[tokio::test]
async fn every_name_of_ours_is_qualified() -> anyhow::Result<()> {
    let database = TestDatabase::new().await?;
    // Types are relations: the composite ones, which are all there are.
    let relations = names(
        &database,
        "select c.relname::text from pg_class c join pg_namespace n on n.oid = c.relnamespace where n.nspname in ('tasker', 'pgmq') and c.relkind in ('r', 'p', 'v', 'c', 'S')",
    )
    .await?;
    let called = names(
        &database,
        "select p.proname::text from pg_proc p join pg_namespace n on n.oid = p.pronamespace where n.nspname in ('tasker', 'pgmq') \
         and not exists (select from pg_proc c where c.proname = p.proname and c.pronamespace = 'pg_catalog'::regnamespace)",
    )
    .await?;
    for function in functions(&database).await? {
        let found = unqualified(&function.body, &relations, &called);
        assert_eq!(found, Vec::<String>::new(), "{}", function.name);
    }
    let slips = tokens(
        "select x::_keyed from tasks t join tasker.steps s; execute 'delete from steps'; perform claim_steps('w'); perform tasker.verify()",
    );
    assert_eq!(
        unqualified(&slips, &relations, &called),
        ["_keyed", "tasks", "steps", "claim_steps"]
    );
    Ok(())
}

/// Whether a format has no other places than for names (`%I`) and literals (`%L`).
fn quotes_everything(format: &str) -> bool {
    format.replace("%%", "").split('%').skip(1).all(|place| {
        let place = place
            .trim_start_matches(|digit: char| digit.is_ascii_digit())
            .trim_start_matches('$');
        place.starts_with(['I', 'L'])
    })
}

/// How many statements a function executes that could hold a caller's text unquoted.
fn open_statements(body: &[Token]) -> usize {
    let ends = |token: Option<&Token>| {
        token.is_none_or(|token| token.is(';') || ["into", "using", "loop"].contains(&token.word()))
    };
    let is_closed = |after: &[Token]| match after {
        [Token::Text(_), rest @ ..] => ends(rest.first()),
        [format, open, Token::Text(text), comma, rest @ ..]
            if format.word() == "format" && open.is('(') =>
        {
            let mut depth = 1;
            let close = rest.iter().position(|token| {
                depth += i32::from(token.is('(')) - i32::from(token.is(')'));
                depth == 0
            });
            comma.is(',')
                && quotes_everything(text)
                && close.is_some_and(|at| ends(rest.get(at + 1)))
        }
        _ => false,
    };
    let executes = body
        .iter()
        .enumerate()
        .filter(|(_, token)| token.word() == "execute");
    executes
        .filter(|(at, _)| !is_closed(&body[at + 1..]))
        .count()
}

#[tokio::test]
async fn statements_are_put_together_with_quoted_names_and_literals_only() -> anyhow::Result<()> {
    let database = TestDatabase::new().await?;
    let mut open: BTreeMap<String, usize> = BTreeMap::new();
    for function in functions(&database).await? {
        *open.entry(function.name).or_default() += open_statements(&function.body);
    }
    open.retain(|_, count| *count > 0);
    let known: BTreeMap<String, usize> = EXECUTE_MORE
        .iter()
        .map(|(name, count, _)| ((*name).to_owned(), *count))
        .collect();
    assert_eq!(open, known);
    for slip in [
        "execute 'drop table ' || p_name;",
        "execute format('drop table %s', p_name);",
        "execute p_statement;",
        "execute format('a' || p, p);",
        "execute format('%I', p) || p;",
    ] {
        assert_eq!(open_statements(&tokens(slip)), 1, "{slip}");
    }
    for well in [
        "execute 'select 1' into v_x;",
        "execute format('drop table %1$I.%I', p_name, f(p)) using 1;",
    ] {
        assert_eq!(open_statements(&tokens(well)), 0, "{well}");
    }
    Ok(())
}

/// Error codes that a body raises, or refuses with.
fn codes_raised(body: &[Token]) -> BTreeSet<String> {
    let is_code = |text: &str| {
        text.len() == 5
            && (text.starts_with("TK")
                || text.starts_with("22")
                || text.starts_with("40")
                || text.starts_with("55"))
    };
    let raises = |at: usize| {
        at >= 2
            && (body[at - 1].is('(') && body[at - 2].word() == "_raise"
                || body[at - 1].is('[') && body[at - 2].word() == "array")
    };
    body.iter()
        .enumerate()
        .filter_map(|(at, token)| match token {
            Token::Text(text) if is_code(text) && raises(at) => Some(text.clone()),
            _ => None,
        })
        .collect()
}

/// What the code in SQL raises; the library adds codes of its own, which only the comments and the tests of behaviour know.
#[tokio::test]
async fn every_public_function_names_in_its_comment_the_errors_that_it_raises() -> anyhow::Result<()>
{
    let database = TestDatabase::new().await?;
    let functions = functions(&database).await?;
    let mut codes: BTreeMap<&str, BTreeSet<String>> = BTreeMap::new();
    for function in &functions {
        codes
            .entry(&function.name)
            .or_default()
            .extend(codes_raised(&function.body));
    }
    // What a function calls, it raises: until nothing is added any more.
    loop {
        let before: usize = codes.values().map(BTreeSet::len).sum();
        for function in &functions {
            let called: BTreeSet<String> = function
                .body
                .iter()
                .filter(|token| !CAUGHT.contains(&token.word()))
                .filter_map(|token| codes.get(token.word()))
                .flatten()
                .cloned()
                .collect();
            codes.entry(&function.name).or_default().extend(called);
        }
        if codes.values().map(BTreeSet::len).sum::<usize>() == before {
            break;
        }
    }
    let mut missing = Vec::new();
    for function in functions
        .iter()
        .filter(|function| !function.name.starts_with('_'))
    {
        let said = match function.comment.split_once("Errors: as ") {
            Some((_, other)) => functions
                .iter()
                .find(|one| one.name == other.trim_end_matches('.'))
                .map_or("", |one| one.comment.as_str()),
            None => &function.comment,
        };
        let said = said.split_once("Errors: ").map_or("", |(_, errors)| errors);
        let unsaid: Vec<&String> = codes[function.name.as_str()]
            .iter()
            .filter(|code| !said.contains(code.as_str()))
            .collect();
        if !unsaid.is_empty() {
            missing.push((&function.name, unsaid));
        }
    }
    assert!(missing.is_empty(), "{missing:?}");
    Ok(())
}

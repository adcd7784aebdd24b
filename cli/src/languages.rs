//! The languages that code is written in for the user, and how names look in them.

use std::collections::HashSet;

/// A language of handlers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Language {
    Rust,
    Python,
    #[value(name = "typescript")]
    #[serde(rename = "typescript")]
    TypeScript,
    Ruby,
}

/// How the words of a name are put together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Case {
    /// `two_words`
    Snake,
    /// `twoWords`
    Camel,
    /// `TwoWords`
    Pascal,
}

impl Language {
    /// How its functions and fields are named.
    pub(crate) const fn case_of_functions(self) -> Case {
        match self {
            Self::TypeScript => Case::Camel,
            Self::Rust | Self::Python | Self::Ruby => Case::Snake,
        }
    }

    /// The words that name nothing of a user's: keywords, and what the code that is written uses itself.
    const fn reserved(self) -> &'static str {
        match self {
            Self::Rust => {
                "abstract as async await become box break const continue crate do dyn else enum extern false final fn for gen if impl in \
                 let loop macro match mod move mut override priv pub ref return self static struct super trait true try type typeof union unsafe \
                 unsized use virtual where while yield \
                 Any BTreeMap Box Clone Debug Default Deserialize Deserializer Err None Ok Option PartialEq Result Self Serialize Some String Value Vec \
                 bool f64 i64 str u64 extra main register std serde serde_json tasker_client tasker_worker_runtime"
            }
            Self::Python => {
                "False None True and as assert async await break case class continue def del elif else except finally for from global if import in is \
                 lambda match nonlocal not or pass raise return try type while with \
                 Any Literal NotRequired TypeAlias TypedDict Union bool dict float int list object str HANDLERS handlers"
            }
            Self::TypeScript => {
                "abstract any arguments as async await boolean break case catch class const continue debugger declare default delete do else enum eval \
                 export extends false finally for from function get if implements import in infer instanceof interface is keyof let module \
                 namespace never new null number object of package private protected public readonly require return set static string super switch \
                 symbol this throw true try type typeof undefined unique unknown var void while with yield \
                 Array Boolean Date Error Function Handler Json JsonObject Map Number Object Promise Record Set String Symbol handlers"
            }
            Self::Ruby => {
                "BEGIN END alias and begin break case class def defined do else elsif end ensure false for if in module next nil not or redo rescue \
                 retry return self super then true undef unless until when while yield \
                 binding catch clone count cycle deconstruct deconstruct_keys detect dig display dup each each_pair entries enum_for eql extend exec exit \
                 fail filter filter_map find first fork format freeze frozen gets hash initialize inspect instance_of is_a itself lambda length load loop map max \
                 members merge method methods min new object_id open p pp print proc public_send puts raise rand reduce reject require respond_to select send \
                 size sleep sort spawn sum system tally tap test throw to_a to_enum to_h to_hash to_json to_s trap uniq values values_at warn zip document extra from_document to_document \
                 Array Comparable Class Data Enumerable Float Hash Integer Kernel Module NilClass Numeric Object Proc Range Set String Struct Symbol HANDLERS"
            }
        }
    }

    fn is_reserved(self, name: &str) -> bool {
        self.reserved()
            .split_ascii_whitespace()
            .any(|word| word == name)
    }
}

/// The words of a name: letters and digits of ASCII, parted by what else there is and where small letters turn to capital ones.
fn words(name: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let mut before = ' ';
    for c in name.chars() {
        let begins_word =
            c.is_ascii_uppercase() && (before.is_ascii_lowercase() || before.is_ascii_digit());
        if begins_word || !c.is_ascii_alphanumeric() {
            words.push(String::new());
        }
        if c.is_ascii_alphanumeric()
            && let Some(word) = words.last_mut()
        {
            word.push(c.to_ascii_lowercase());
        }
        before = c;
    }
    words.retain(|word| !word.is_empty());
    words
}

fn capital(word: &str) -> String {
    let (first, rest) = word.split_at(word.len().min(1));
    first.to_ascii_uppercase() + rest
}

/// A name as an identifier of any language, but for words that are reserved; `fallback` where nothing of it can be said.
pub(crate) fn identifier(name: &str, case: Case, fallback: &str) -> String {
    let mut words = words(name);
    if words.is_empty() {
        words.push(fallback.to_owned());
    }
    let text = match case {
        Case::Snake => words.join("_"),
        Case::Pascal => words.iter().map(|word| capital(word)).collect(),
        Case::Camel => {
            let rest = words.iter().skip(1).map(|word| capital(word));
            words.iter().take(1).cloned().chain(rest).collect()
        }
    };
    if !text.starts_with(|c: char| c.is_ascii_digit()) {
        return text;
    }
    match case {
        Case::Pascal => format!("N{text}"),
        Case::Snake | Case::Camel => format!("n{text}"),
    }
}

/// Gives each thing of one scope a name of its own.
#[derive(Debug, Default)]
pub(crate) struct Names {
    taken: HashSet<String>,
}

impl Names {
    /// The identifier for a name, with a number from 2 behind it where it is taken, and with `_` where it is reserved.
    pub(crate) fn give(
        &mut self,
        language: Language,
        name: &str,
        case: Case,
        fallback: &str,
    ) -> String {
        let plain = identifier(name, case, fallback);
        let plain = if language.is_reserved(&plain) {
            plain + "_"
        } else {
            plain
        };
        let between = if case == Case::Snake && !plain.ends_with('_') {
            "_"
        } else {
            ""
        };
        let numbered = (2..).map(|number| format!("{plain}{between}{number}"));
        let free = std::iter::once(plain.clone())
            .chain(numbered)
            .find(|name| !self.taken.contains(name))
            .unwrap_or(plain.clone());
        self.taken.insert(free.clone());
        free
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_become_identifiers_of_their_case() {
        let all = |name| {
            [Case::Snake, Case::Camel, Case::Pascal].map(|case| identifier(name, case, "field"))
        };
        assert_eq!(all("order-id"), ["order_id", "orderId", "OrderId"]);
        assert_eq!(all("unitPrice"), ["unit_price", "unitPrice", "UnitPrice"]);
        assert_eq!(
            all("HTTP2 status"),
            ["http2_status", "http2Status", "Http2Status"]
        );
        assert_eq!(all("3d"), ["n3d", "n3d", "N3d"]);
        assert_eq!(all("$ö"), ["field", "field", "Field"]);
        assert_eq!(all(""), ["field", "field", "Field"]);
    }

    #[test]
    fn reserved_and_taken_names_are_told_apart() {
        let mut names = Names::default();
        let mut give = |name| names.give(Language::Rust, name, Case::Snake, "step");
        let given = ["type", "Type", "a-b", "a_b", "a.b"].map(&mut give);
        assert_eq!(given, ["type_", "type_2", "a_b", "a_b_2", "a_b_3"]);
    }

    #[test]
    fn each_language_reserves_its_own_words() {
        assert!(Language::Python.is_reserved("lambda") && !Language::Rust.is_reserved("lambda"));
        assert!(
            Language::Ruby.is_reserved("method") && !Language::TypeScript.is_reserved("method")
        );
    }
}

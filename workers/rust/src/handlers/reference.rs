//! Identifiers made from what they stand for: the same input gives the same identifier, on every
//! machine and at every attempt.

use std::fmt::Write;

use sha2::{Digest, Sha256};

/// `prefix_` and 16 hexadecimal digits, drawn from `parts`.
pub(crate) fn reference(prefix: &str, parts: &[&str]) -> String {
    let digest = digest(parts);
    let mut reference = format!("{prefix}_");
    for byte in &digest[..8] {
        // Writing to a String can't fail.
        let _ = write!(reference, "{byte:02x}");
    }
    reference
}

/// One of `choices`, always the same one for the same `parts`.
pub(crate) fn choice<'a>(choices: &[&'a str], parts: &[&str]) -> &'a str {
    match choices.len() {
        0 => "",
        count => choices[usize::from(digest(parts)[0]) % count],
    }
}

fn digest(parts: &[&str]) -> [u8; 32] {
    let mut hasher = Sha256::new();
    for part in parts {
        // The length keeps ("ab", "c") apart from ("a", "bc").
        hasher.update((part.len() as u64).to_be_bytes());
        hasher.update(part.as_bytes());
    }
    hasher.finalize().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_parts_give_the_same_reference_and_others_another() {
        assert_eq!(
            reference("res", &["A-1", "mug"]),
            reference("res", &["A-1", "mug"])
        );
        assert_ne!(
            reference("res", &["ab", "c"]),
            reference("res", &["a", "bc"])
        );
        assert_eq!(reference("res", &[]), "res_e3b0c44298fc1c14");
    }

    #[test]
    fn a_choice_is_one_of_the_choices() {
        assert!(["north", "south"].contains(&choice(&["north", "south"], &["mug"])));
        assert_eq!(choice(&[], &["mug"]), "");
    }
}

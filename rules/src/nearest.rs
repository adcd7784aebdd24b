//! The known name that an unknown one may have been meant to be.

/// The longest name that is compared.
const MAX_LENGTH: usize = 128;

/// A question to add to a message when a known name is near the given one, empty otherwise.
pub(crate) fn did_you_mean<'a>(given: &str, known: impl Iterator<Item = &'a str>) -> String {
    if given.len() > MAX_LENGTH {
        return String::new();
    }
    let nearest = known
        .filter(|name| name.len() <= MAX_LENGTH)
        .map(|name| (strsim::damerau_levenshtein(given, name), name))
        // A fixed order among equals, whatever order the names come in.
        .min();
    let allowed = (given.chars().count() / 3).max(1);
    match nearest {
        Some((distance, name)) if distance <= allowed => format!("; did you mean {name:?}?"),
        _ => String::new(),
    }
}

/// Questions about the names of steps. Each look goes over all of them, so only so many looks are taken.
pub(crate) struct Hints {
    left: usize,
}

impl Default for Hints {
    fn default() -> Self {
        Self { left: 20 }
    }
}

impl Hints {
    pub(crate) fn did_you_mean(&mut self, given: &str, names: &[Option<&str>]) -> String {
        let Some(left) = self.left.checked_sub(1) else {
            return String::new();
        };
        self.left = left;
        did_you_mean(given, names.iter().copied().flatten())
    }
}

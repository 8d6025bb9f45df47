//! The values of a field that lists several, as one text.
//!
//! Invariant: an index of 200,000 records has millions of them, so they are kept as they came, in
//! one piece, and taken apart when looked at. An empty text is an empty list; otherwise each single
//! space separates, as for apko.

/// A list of words in one text.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Words(Box<str>);

impl Words {
    /// Takes the text of a field.
    pub fn new(text: &str) -> Self {
        Self(text.into())
    }

    /// The words in order.
    pub fn iter(&self) -> impl Iterator<Item = &str> {
        let nothing = self.0.is_empty();
        self.0.split(' ').filter(move |_| !nothing)
    }

    /// How many words there are.
    pub fn len(&self) -> usize {
        self.iter().count()
    }

    /// True when there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl std::fmt::Debug for Words {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_space_separates() {
        let words = |text| Words::new(text).iter().map(str::to_owned).collect::<Vec<_>>();
        assert_eq!(words(""), Vec::<String>::new());
        assert_eq!(words("a"), ["a"]);
        assert_eq!(words("a  b "), ["a", "", "b", ""]);
        assert_eq!((Words::new("a b").len(), Words::default().len()), (2, 0));
    }
}

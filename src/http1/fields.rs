//! The field lines of a head, as they came.

/// One field line: its name as it is spelled, and its trimmed value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Field<'a> {
    /// A token (RFC 9110 §5.6.2).
    pub name: &'a [u8],
    /// No control characters but tabs, no white space around it.
    pub value: &'a [u8],
}

/// All of them, in their order.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Fields<'a>(Vec<Field<'a>>);

impl Field<'_> {
    /// Whether it has that name, which is written in lower case.
    #[must_use]
    pub fn is(&self, name: &str) -> bool {
        self.name.eq_ignore_ascii_case(name.as_bytes())
    }
}

impl<'a> Fields<'a> {
    /// Room for what most heads have.
    pub(super) fn new() -> Self {
        Self(Vec::with_capacity(16))
    }

    pub(super) fn push(&mut self, field: Field<'a>) {
        self.0.push(field);
    }

    /// In their order.
    pub fn iter(&self) -> impl Iterator<Item = Field<'a>> + '_ {
        self.0.iter().copied()
    }

    /// The values of the fields of that name, which is written in lower case.
    pub fn all<'f>(&'f self, name: &'f str) -> impl Iterator<Item = &'a [u8]> + 'f {
        self.iter().filter(move |field| field.is(name)).map(|field| field.value)
    }

    /// Whether there is one.
    #[must_use]
    pub fn has(&self, name: &str) -> bool {
        self.all(name).next().is_some()
    }

    /// The elements of the lists in the fields of that name (RFC 9110 §5.6.1); empty ones too.
    pub fn elements<'f>(&'f self, name: &'f str) -> impl Iterator<Item = &'a [u8]> + 'f {
        self.all(name).flat_map(|value| value.split(|byte| *byte == b',')).map(<[u8]>::trim_ascii)
    }
}

impl<'a> FromIterator<Field<'a>> for Fields<'a> {
    fn from_iter<I: IntoIterator<Item = Field<'a>>>(fields: I) -> Self {
        Self(fields.into_iter().collect())
    }
}

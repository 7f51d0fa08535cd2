//! The policies that are compiled in, for people who have none yet.

/// A policy by name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Preset {
    /// How it is asked for.
    pub name: &'static str,
    /// One line for the list.
    pub summary: &'static str,
    /// The TOML text.
    pub text: &'static str,
}

/// All presets.
pub const PRESETS: &[Preset] = &[Preset {
    name: "agent",
    summary: "source hosts, package registries and model APIs that coding agents need",
    text: include_str!("../../config/presets/agent.toml"),
}];

impl Preset {
    /// The preset of that name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        PRESETS.iter().copied().find(|preset| preset.name == name)
    }
}

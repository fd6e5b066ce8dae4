//! How many rounds each proof runs.

/// How much of the campaign is run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Share {
    /// As much as fits a run of all tests.
    Ci,
    /// The figures that are promised.
    Full,
}

impl Share {
    /// One of two figures.
    #[must_use]
    pub fn of(self, ci: u64, full: u64) -> u64 {
        match self {
            Self::Ci => ci,
            Self::Full => full,
        }
    }
}

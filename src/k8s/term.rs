//! The proof that this process may write.

/// Leadership for a while. Every function that writes to the cluster takes one, so that no write can be added without it.
#[derive(Debug, Clone)]
pub struct Term(());

impl Term {
    /// For the only instance there is: the Deployment runs one replica and ends it before it starts another (strategy `Recreate`).
    pub fn of_the_only_instance() -> Self {
        Self(())
    }
}

//! The mounted client certificate, and those that were mounted before.

use std::path::Path;

use anyhow::Result;

use super::okms::Okms;
use crate::stage::operator::Mounted;

/// How many certificates before the present one are let live: what was under way with them ends well.
const KEPT: usize = 2;

pub(super) struct Mount {
    mounted: Mounted,
    /// Of the certificates that are not revoked, the oldest first.
    serials: Vec<String>,
}

impl Mount {
    pub(super) fn new(mounted: Mounted) -> Self {
        Self { mounted, serials: Vec::new() }
    }

    pub(super) fn root(&self) -> &Path {
        self.mounted.root()
    }

    /// Has a new certificate issued and mounts it. One that was replaced long ago is revoked.
    pub(super) async fn rotate(&mut self, okms: &mut Okms) -> Result<()> {
        let issued = okms.issue().await?;
        self.mounted.swap(&[("tls.crt", &issued.chain), ("tls.key", &issued.key)])?;
        self.serials.push(issued.serial);
        if self.serials.len() > KEPT + 1 {
            let old = self.serials.remove(0);
            okms.revoke(&old).await?;
        }
        Ok(())
    }
}

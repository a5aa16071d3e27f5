//! The chart under Helm's own eyes: `lint` and `template` with each of its example values.
//!
//! What it renders, and what it refuses, is tested by the integration tests on a real API server.

use std::path::Path;

use anyhow::{Result, bail};
use test_cluster::binaries;

use crate::{
    run,
    workspace::{self, yaml_files},
};

/// Below the workspace's root.
const CHART: &str = "charts/okms-operator";

pub(super) fn run() -> Result<()> {
    let chart = workspace::root().join(CHART);
    // By the convention of chart-testing, every file in it is one way to install.
    let examples = yaml_files(&chart.join("ci"))?;
    if examples.is_empty() {
        bail!("{CHART}/ci has no values to render the chart with: add one *-values.yaml for each way to install it");
    }
    let helm = binaries::helm_binary()?;
    for values in examples {
        run::run(run::program(&helm).args(["lint", "--strict", CHART, "--values"]).arg(&values))?;
        let rendered =
            run::output(run::program(&helm).args(["template", "okms-operator", CHART, "--values"]).arg(&values))?;
        if !rendered.contains("\nkind: Deployment\n") {
            let values = values.file_name().map_or(&*values, Path::new);
            bail!("{CHART} renders no Deployment with {}", values.display());
        }
    }
    Ok(())
}

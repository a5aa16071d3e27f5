//! What goes wrong, at the API server or at OKMS, in every phase of an object's life: nothing is lost, nothing untrue is said, little is done,
//! and all goes on by itself.
//!
//! With `--nocapture` it prints what it measured, as a table.

#![allow(clippy::print_stdout)] // The table is for people.

mod cell;
mod rows;
mod truth;

use std::{any::Any, panic::AssertUnwindSafe, time::Instant};

use futures::{FutureExt, StreamExt, future::join_all, stream};
use kube::Config as KubeConfig;
use test_cluster::ControlPlane;

use self::{
    cell::{Cell, Measured},
    rows::{Cause, Phase, Row},
};
use crate::{
    cluster::install_crds,
    world::{self, config_of},
};

/// How many rows are under way at once: each has a world for every phase.
const ROWS_AT_ONCE: usize = 6;

/// What was wrong, as the last thing that the test says: behind the panics of the rows, with their traces, it would be far up.
#[derive(Debug)]
struct Failed(#[expect(dead_code, reason = "it is shown")] Vec<String>);

/// What the cells of a row cost, or what was wrong in one of them.
type Outcome = Result<Vec<Measured>, String>;

#[tokio::test(flavor = "multi_thread")]
async fn every_fault_in_every_phase() -> Result<(), Failed> {
    // Once, and not by the first of many.
    world::client().await;
    let start = Instant::now();
    let all = rows::rows();
    let outcomes: Vec<_> = stream::iter(&all).map(|row| told(row, across(row))).buffered(ROWS_AT_ONCE).collect().await;
    print(&all, &outcomes);
    println!("{} cells in {:.0} s", all.len() * Phase::ALL.len(), start.elapsed().as_secs_f64());
    let failed: Vec<_> = outcomes.into_iter().filter_map(Result::err).collect();
    if failed.is_empty() { Ok(()) } else { Err(Failed(failed)) }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_control_plane_that_dies_in_every_phase() {
    let mut plane = tokio::task::spawn_blocking(|| {
        let plane = ControlPlane::start().unwrap();
        install_crds(&plane);
        plane
    })
    .await
    .unwrap();
    let all = rows::killed();
    let mut outcomes = Vec::new();
    for row in &all {
        outcomes.push(Ok(kill(row, &mut plane).await));
    }
    print(&all, &outcomes);
}

/// A panic ends its row alone, so that the others are known too.
async fn told(row: &Row, outcome: impl Future<Output = Vec<Measured>>) -> Outcome {
    AssertUnwindSafe(outcome).catch_unwind().await.map_err(|panic| format!("{}: {}", row.name, words(panic)))
}

fn words(panic: Box<dyn Any + Send>) -> String {
    panic.downcast::<String>().map_or_else(|_| "it panicked".to_owned(), |said| *said)
}

async fn prepared(row: &Row, config: Option<&KubeConfig>) -> Vec<Cell> {
    join_all(Phase::ALL.map(async |phase| {
        let cell = AssertUnwindSafe(Cell::prepare(row, phase, config)).catch_unwind().await;
        cell.unwrap_or_else(|panic| panic!("before the fault of {}: {}", phase.name(), words(panic)))
    }))
    .await
}

/// A row from the first cell to the last.
async fn across(row: &Row) -> Vec<Measured> {
    let mut cells = prepared(row, None).await;
    join_all(cells.iter_mut().zip(row.meanwhile).map(async |(cell, meanwhile)| {
        cell.begins().await;
        row.cause.begin(cell).await;
        cell.happen().await;
        cell.observe(row, meanwhile).await;
        row.cause.end(cell).await;
        cell.recover(row).await
    }))
    .await
}

/// A row whose cells share the control plane that dies.
async fn kill(row: &Row, plane: &mut ControlPlane) -> Vec<Measured> {
    let Cause::Killed(component) = row.cause else { panic!("nothing is killed in {}", row.name) };
    let mut cells = prepared(row, Some(&config_of(plane).await)).await;
    join_all(cells.iter_mut().map(Cell::begins)).await;
    // What needs the API server for it to happen is under way when it dies, and may be done with.
    let (told, others): (Vec<_>, Vec<_>) = cells.iter().partition(|cell| cell.phase.is_told_to_kubernetes());
    join_all(told.into_iter().map(Cell::happen)).await;
    tokio::task::block_in_place(|| plane.kill(component));
    join_all(others.into_iter().map(Cell::happen)).await;
    join_all(cells.iter().zip(row.meanwhile).map(|(cell, meanwhile)| cell.observe(row, meanwhile))).await;
    tokio::task::block_in_place(|| plane.revive(component).unwrap());
    join_all(cells.iter_mut().map(|cell| cell.recover(row))).await
}

/// For each cell: how long it took to recover, how long the fault lasted and what was asked meanwhile, statuses written.
fn print(rows: &[Row], outcomes: &[Outcome]) {
    let header: Vec<_> = Phase::ALL.iter().map(|phase| phase.name()).collect();
    println!(
        "\nrecovery (of a fault that lasted so long, with so many requests to the API server + to OKMS; statuses written)\n"
    );
    println!("| fault | {} |\n|---|{}", header.join(" | "), "---|".repeat(header.len()));
    for (row, outcome) in rows.iter().zip(outcomes) {
        let cells = outcome.iter().flatten().map(|measured| {
            let Measured { phase, recovery, lasted, api_calls, okms_calls, statuses } = measured;
            debug_assert!(Phase::ALL.contains(phase));
            let (recovery, lasted) = (recovery.as_secs_f64(), lasted.as_secs_f64());
            format!("{recovery:.1} s ({lasted:.1} s, {api_calls} + {okms_calls}; {statuses})")
        });
        println!("| {} | {} |", row.name, cells.collect::<Vec<_>>().join(" | "));
    }
}

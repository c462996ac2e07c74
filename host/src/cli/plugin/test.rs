//! `busway plugin test`: golden tests. Each `tests/*.json` of a plugin's project holds events and what is to come of them; they go
//! through the built file as the hub would call it, one after another on one memory.
//!
//! Start reading at [`case`] (what a file says), then [`check`] (what came of it, against that); [`report`] is what is printed.

mod case;
mod check;
mod compare;
mod diff;
mod junit;
mod project;
mod report;
mod update;

use super::try_out::Files;
use crate::cli::output::{Closed, Output, note};
use anyhow::{Context, bail};
use case::Case;
use check::Checked;
use report::{Report, Verdict};
use std::{
    path::{Path, PathBuf},
    process::ExitCode,
    time::Instant,
};

/// There was nothing to run, the plugin does not load, or a test's file does not hold.
const UNUSABLE: u8 = 2;

#[derive(Debug, clap::Args)]
#[command(
    after_help = "Exit codes: 0 all passed, 1 a test failed, 2 no plugin, one that does not load, no tests, or a test's file does \
                  not hold."
)]
pub(in crate::cli) struct TestArgs {
    /// The plugin's project, or its .wasm file.
    #[arg(value_name = "DIR|FILE.wasm", default_value = ".")]
    place: PathBuf,
    /// Write what happened into the tests, in place of what they expect.
    #[arg(long)]
    update: bool,
    /// Also write the results as JUnit XML, for a CI system.
    #[arg(long, value_name = "FILE")]
    junit: Option<PathBuf>,
    /// A JSON line for each test, and one for all of them.
    #[arg(long)]
    json: bool,
    /// Only tests whose file or description contains this.
    #[arg(long, value_name = "TEXT")]
    filter: Option<String>,
}

pub(super) async fn run(args: TestArgs) -> anyhow::Result<ExitCode> {
    let began = Instant::now();
    match run_all(&args).await {
        Err(error) if !error.is::<Closed>() => {
            let problem = format!("{error:#}");
            note(&problem);
            if let Some(file) = &args.junit {
                junit::write(file, &name_of(&args.place), &[Report::refused(&args.place, problem, began.elapsed())])?;
            }
            Ok(ExitCode::from(UNUSABLE))
        }
        ended => ended,
    }
}

/// Of what is not loaded.
fn name_of(place: &Path) -> String {
    let whole = place.canonicalize().unwrap_or_else(|_| place.to_owned());
    whole.file_stem().unwrap_or_default().to_string_lossy().into_owned()
}

/// An error: nothing can be said of the plugin.
async fn run_all(args: &TestArgs) -> anyhow::Result<ExitCode> {
    let project = project::find(&args.place).map_err(anyhow::Error::msg)?;
    if let Some(newer) = &project.newer {
        note(format_args!("testing the last build, which is older than {}: build it again", newer.display()));
    }
    let files = Files::read(&project.wasm)?;
    // Told once here, and not by each test.
    files.load(files.manifest.clone(), &[]).await.with_context(|| project.wasm.display().to_string())?;
    let mut out = Output::stdout();
    let mut reports = Vec::new();
    for path in &project.tests {
        let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
        let shown = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let Some(report) = one(&files, path, &shown, &text, args).await? else { continue };
        out.coloured(if args.json { report.json().to_string() } else { report.text(out.colour()) })?;
        out.flush()?;
        reports.push(report);
    }
    if reports.is_empty() {
        bail!("expected a test that contains {:?}, found none", args.filter.as_deref().unwrap_or_default());
    }
    out.coloured(if args.json {
        report::summary_json(&reports).to_string()
    } else {
        report::summary(&reports, out.colour())
    })?;
    out.flush()?;
    if let Some(file) = &args.junit {
        junit::write(file, files.name().as_str(), &reports)?;
    }
    let any = |is: fn(&Verdict) -> bool| reports.iter().any(|report| is(&report.verdict));
    Ok(
        match (
            any(|verdict| matches!(verdict, Verdict::Refused(_))),
            any(|verdict| matches!(verdict, Verdict::Failed(_))),
        ) {
            (true, _) => ExitCode::from(UNUSABLE),
            (false, true) => ExitCode::FAILURE,
            (false, false) => ExitCode::SUCCESS,
        },
    )
}

/// Runs one file; none, if it is not among those that are wanted.
async fn one(files: &Files, path: &Path, file: &str, text: &str, args: &TestArgs) -> anyhow::Result<Option<Report>> {
    let wanted = |text: &str| args.filter.as_ref().is_none_or(|filter| text.contains(filter.as_str()));
    let began = Instant::now();
    let report = |description: &str, verdict, calls| {
        Some(Report {
            file: file.to_owned(),
            description: description.to_owned(),
            verdict,
            calls,
            time: began.elapsed(),
        })
    };
    let case = match Case::parse(text) {
        Ok(case) => case,
        Err(mistake) => {
            let problem = format!("{}: {mistake}", path.display());
            return Ok(report("", Verdict::Refused(problem), Vec::new()).filter(|_| wanted(file)));
        }
    };
    if !wanted(file) && !wanted(&case.description) {
        return Ok(None);
    }
    let mut checked = match check::run(files, &case).await {
        Ok(checked) => checked,
        Err(error) => return Ok(report(&case.description, Verdict::Refused(format!("{error:#}")), Vec::new())),
    };
    let mut updated = false;
    if args.update {
        let again = check::run(files, &case).await?;
        let new = update::rewrite(text, &case, &checked.calls, &again.calls);
        if new != text {
            std::fs::write(path, &new).with_context(|| format!("cannot write {}", path.display()))?;
            updated = true;
            let case = Case::parse(&new).map_err(|mistake| anyhow::anyhow!("{}: {mistake}", path.display()))?;
            checked = check::run(files, &case).await?;
        }
    }
    let Checked { calls, differences } = checked;
    let verdict = match (differences.is_empty(), updated) {
        (false, _) => Verdict::Failed(differences),
        (true, true) => Verdict::Updated,
        (true, false) => Verdict::Passed,
    };
    Ok(report(&case.description, verdict, calls))
}

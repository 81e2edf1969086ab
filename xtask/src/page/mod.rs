//! `cargo xtask page`: the packages in a booted Debian 12, and the page walked from top to bottom.
//!
//! [`host`] finds out what this machine allows and makes the root file system, [`machine`] boots it
//! and runs commands in it, [`walk`] numbers the steps; the steps themselves are in [`install`],
//! [`steps`], [`trouble`] and [`afterwards`]. The first difference ends the walk and leaves the root
//! file system for inspection.

mod afterwards;
mod host;
mod install;
mod machine;
mod steps;
mod trouble;
mod walk;

use std::path::PathBuf;
use std::time::Instant;

use clap::Args;

use crate::packages::{self, Build};
use machine::Machine;
use walk::Walk;

#[derive(Args, Default)]
pub struct PageArgs {
    /// Programs with optimisation of our own code, as they are released
    #[arg(long)]
    release: bool,
    /// Take the programs as they were built
    #[arg(long)]
    no_build: bool,
    /// Leave the machine's root file system in place, also when all is well
    #[arg(long)]
    keep: bool,
    /// PKCS#11 module to use in place of SoftHSM, with its settings below /etc/nitrokey
    #[arg(long, env = "CASCADE_PAGE_MODULE")]
    module: Option<PathBuf>,
    /// Folder with the packages of a former release: the upgrade from it is walked too
    #[arg(long, env = "CASCADE_PAGE_PREVIOUS")]
    previous: Option<PathBuf>,
    /// Debian release of the machine
    #[arg(long, default_value = host::SUITE, value_parser = ["bookworm", "trixie"])]
    suite: String,
}

impl PageArgs {
    /// The programs as the tests have built them.
    pub fn built() -> PageArgs {
        PageArgs {
            no_build: true,
            suite: host::SUITE.into(),
            ..PageArgs::default()
        }
    }
}

/// What came of it.
pub enum Outcome {
    Walked {
        passed: usize,
        failed: usize,
    },
    /// This machine cannot: why.
    Skipped(String),
}

pub fn run(args: &PageArgs) -> Result<bool, String> {
    match walk(args)? {
        Outcome::Walked { passed, failed } => {
            println!("{passed} passed, {failed} failed");
            Ok(failed == 0)
        }
        Outcome::Skipped(why) => {
            println!("SKIP page: {why}");
            Ok(true)
        }
    }
}

pub fn walk(args: &PageArgs) -> Result<Outcome, String> {
    if let Err(why) = host::able() {
        return Ok(Outcome::Skipped(why));
    }
    let begun = Instant::now();
    if !args.no_build {
        packages::compile(!args.release)?;
    }
    let mut build = Build::new(!args.release)?;
    build.symbols = false;
    build.out = packages::target()?.join("page/packages");
    let packages = build.all()?;
    // The same programs once more, as the release after this one, with other conffiles.
    build.out = packages::target()?.join("page/next");
    build.version = build.version.replace("-1", "+next-1");
    build.conffile_note = Some("\n# A line that the former release did not have.\n".into());
    let next = build.all()?;
    println!("packages: {} s", begun.elapsed().as_secs());

    let root = host::fresh_root(&args.suite)?;
    println!("root file system: {} s", begun.elapsed().as_secs());
    host::give(&root, "root/now", &packages)?;
    host::give(&root, "root/next", &next)?;
    if let Some(module) = &args.module {
        host::give(&root, "root/module", std::slice::from_ref(module))?;
    }

    let states = crate::root().join("integration/data/states/schema-1.tar.gz");
    host::give(&root, "root/states", &[states])?;
    let previous = args
        .previous
        .as_deref()
        .map(host::packages_in)
        .transpose()?;
    if let Some(packages) = &previous {
        host::give(&root, "root/previous", packages)?;
    }

    let mut walk = Walk::new(Machine::boot(&root)?);
    walk.packages.clone_from(&packages);
    walk.hsm = packages.len() > 1;
    walk.previous = previous.is_some();
    walk.foreign_module = args.module.is_some();
    let result = all(&mut walk);
    let (passed, failed) = walk.end(&result);
    match &result {
        Err(difference) => {
            println!("{difference}");
            println!("left for inspection: {}", root.display());
        }
        Ok(()) if !args.keep => host::throw_away(&root),
        Ok(()) => println!("kept: {}", root.display()),
    }
    println!("{} s in all", begun.elapsed().as_secs());
    Ok(Outcome::Walked { passed, failed })
}

fn all(walk: &mut Walk) -> Result<(), String> {
    install::rows(walk)?;
    steps::rows(walk)?;
    trouble::rows(walk)?;
    afterwards::rows(walk)
}

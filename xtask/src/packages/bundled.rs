//! What is linked into the programs: names, versions, licences and their texts.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};

use super::contents::Package;
use crate::process;

/// A crate that is compiled in.
struct Crate {
    name: String,
    version: String,
    licence: String,
    folder: PathBuf,
    ours: bool,
}

/// Crates reachable from the package's programs over ordinary dependencies, by name and version.
fn crates(package: &Package) -> Result<Vec<Crate>, String> {
    let text = process::output(
        Command::new("cargo")
            .args(["metadata", "--format-version=1", "--locked"])
            .current_dir(crate::root()),
    )?;
    let graph: Value =
        serde_json::from_slice(&text).map_err(|e| format!("what cargo says of the graph: {e}"))?;
    let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();

    let mut edges: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for node in list(&graph["resolve"]["nodes"]) {
        let normal = |dep: &&Value| list(&dep["dep_kinds"]).iter().any(|k| k["kind"].is_null());
        let to = list(&node["deps"]);
        let to = to.iter().filter(normal).map(|dep| text(&dep["pkg"]));
        edges.insert(text(&node["id"]), to.collect());
    }
    let packages = list(&graph["packages"]);
    let mut open: Vec<String> = packages
        .iter()
        .filter(|p| package.programs.contains(&text(&p["name"]).as_str()) && p["source"].is_null())
        .map(|p| text(&p["id"]))
        .collect();
    let mut reached = BTreeSet::new();
    while let Some(id) = open.pop() {
        if reached.insert(id.clone()) {
            open.extend(edges.get(&id).cloned().unwrap_or_default());
        }
    }
    let mut found: Vec<Crate> = packages
        .iter()
        .filter(|p| reached.contains(&text(&p["id"])))
        .map(|p| Crate {
            name: text(&p["name"]),
            version: text(&p["version"]),
            licence: text(&p["license"]),
            folder: Path::new(&text(&p["manifest_path"]))
                .parent()
                .map(PathBuf::from)
                .unwrap_or_default(),
            ours: p["source"].is_null(),
        })
        .collect();
    found.sort_by(|a, b| (&a.name, &a.version).cmp(&(&b.name, &b.version)));
    Ok(found)
}

const BSD: &str = " Redistribution and use in source and binary forms, with or without
 modification, are permitted provided that the following conditions are met:
 .
 1. Redistributions of source code must retain the above copyright notice,
 this list of conditions and the following disclaimer.
 .
 2. Redistributions in binary form must reproduce the above copyright notice,
 this list of conditions and the following disclaimer in the documentation
 and/or other materials provided with the distribution.
 .
 3. Neither the name of the copyright holder nor the names of its contributors
 may be used to endorse or promote products derived from this software without
 specific prior written permission.
 .
 THIS SOFTWARE IS PROVIDED BY THE COPYRIGHT HOLDERS AND CONTRIBUTORS \"AS IS\"
 AND ANY EXPRESS OR IMPLIED WARRANTIES, INCLUDING, BUT NOT LIMITED TO, THE
 IMPLIED WARRANTIES OF MERCHANTABILITY AND FITNESS FOR A PARTICULAR PURPOSE
 ARE DISCLAIMED. IN NO EVENT SHALL THE COPYRIGHT HOLDER OR CONTRIBUTORS BE
 LIABLE FOR ANY DIRECT, INDIRECT, INCIDENTAL, SPECIAL, EXEMPLARY, OR
 CONSEQUENTIAL DAMAGES (INCLUDING, BUT NOT LIMITED TO, PROCUREMENT OF
 SUBSTITUTE GOODS OR SERVICES; LOSS OF USE, DATA, OR PROFITS; OR BUSINESS
 INTERRUPTION) HOWEVER CAUSED AND ON ANY THEORY OF LIABILITY, WHETHER IN
 CONTRACT, STRICT LIABILITY, OR TORT (INCLUDING NEGLIGENCE OR OTHERWISE)
 ARISING IN ANY WAY OUT OF THE USE OF THIS SOFTWARE, EVEN IF ADVISED OF THE
 POSSIBILITY OF SUCH DAMAGE.
";

pub fn copyright(package: &Package) -> Result<String, String> {
    let mut out = String::from(
        "Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/\n\
         Upstream-Name: Cascade\nComment:\n The programs are linked statically with the libraries \
         listed here. The texts\n of their licences are in licences.txt.gz beside this file.\n .\n",
    );
    for c in crates(package)?.iter().filter(|c| !c.ours) {
        let _ = writeln!(out, " {} {}: {}", c.name, c.version, c.licence);
    }
    let _ = write!(
        out,
        "\nFiles: *\nCopyright: 2026 The Cascade developers\nLicense: BSD-3-Clause\n{BSD}"
    );
    Ok(out)
}

/// Each text once, below the names of those that have it.
pub fn licences(package: &Package) -> Result<String, String> {
    let mut texts: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for c in crates(package)?.iter().filter(|c| !c.ours) {
        for text in texts_in(&c.folder) {
            let who = format!("{} {}", c.name, c.version);
            let list = texts.entry(text).or_default();
            if !list.contains(&who) {
                list.push(who);
            }
        }
    }
    let mut rows: Vec<_> = texts.into_iter().map(|(text, who)| (who, text)).collect();
    rows.sort();
    let mut out = String::new();
    for (who, text) in rows {
        let _ = writeln!(
            out,
            "{}\n{}\n\n{}\n",
            "=".repeat(72),
            who.join(", "),
            text.trim_end()
        );
    }
    Ok(out)
}

fn texts_in(folder: &Path) -> Vec<String> {
    let Ok(entries) = fs::read_dir(folder) else {
        return Vec::new();
    };
    let mut paths: Vec<_> = entries
        .flatten()
        .filter(|e| {
            let name = e.file_name().to_string_lossy().to_ascii_uppercase();
            ["LICENSE", "LICENCE", "COPYING", "COPYRIGHT", "NOTICE"]
                .iter()
                .any(|begin| name.starts_with(begin))
        })
        .map(|e| e.path())
        .collect();
    paths.sort();
    paths
        .iter()
        .filter_map(|p| fs::read_to_string(p).ok())
        .collect()
}

pub fn sbom(package: &Package) -> Result<String, String> {
    let all = crates(package)?;
    let components: Vec<Value> = all
        .iter()
        .map(|c| {
            let mut row = json!({
                "type": "library",
                "name": c.name,
                "version": c.version,
                "licenses": [{ "expression": c.licence.replace('/', " OR ") }],
            });
            if !c.ours {
                row["purl"] = json!(format!("pkg:cargo/{}@{}", c.name, c.version));
            }
            row
        })
        .collect();
    let document = json!({
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "version": 1,
        "metadata": { "component": {
            "type": "application", "name": package.name, "version": env!("CARGO_PKG_VERSION"),
        } },
        "components": components,
    });
    let text = serde_json::to_string_pretty(&document).map_err(|e| format!("the SBOM: {e}"))?;
    Ok(text + "\n")
}

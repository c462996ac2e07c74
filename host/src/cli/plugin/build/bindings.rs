//! Bindings that are generated from the contract, by the generators of the Bytecode Alliance, in this process. Those for C, C++ and
//! Zig are part of the SDK (`plugins/sdk-c`); a test holds them against the contract.

use super::super::{packed, project::World};
use anyhow::Context;
use wit_bindgen_core::Files;
use wit_parser::{Resolve, SourceMap, WorldId};

/// Where the Go SDK lives, as Go names it.
pub(super) const GO_MODULE: &str = "github.com/busway/busway/go";

/// The contract, and the world of it that a plugin targets.
pub(super) fn contract(world: World) -> anyhow::Result<(Resolve, WorldId)> {
    let mut sources = SourceMap::new();
    for (path, text) in packed::below("wit").filter(|(path, _)| path.ends_with(".wit")) {
        sources.push_str(path, text);
    }
    let mut resolve = Resolve::default();
    let group = sources.parse().map_err(|(_, error)| anyhow::anyhow!("the packed contract: {error}"))?;
    let package = resolve.push_group(group).context("the packed contract does not resolve")?;
    let world = resolve.select_world(&[package], Some(&format!("{}-plugin", world.as_str())))?;
    Ok((resolve, world))
}

/// The packages that the Go SDK is written on.
pub(super) fn go(world: World) -> anyhow::Result<Vec<(String, Vec<u8>)>> {
    let options = wit_bindgen_go::Opts {
        format: wit_bindgen_go::Format::False,
        pkg_name: Some(GO_MODULE.into()),
        ..Default::default()
    };
    let mut files = generate(world, &mut *options.build())?;
    for (_, text) in &mut files {
        // Their support package is part of the SDK: see plugins/sdk-go.
        let own = String::from_utf8_lossy(text).replace("go.bytecodealliance.org/pkg/", &format!("{GO_MODULE}/"));
        *text = own.into_bytes();
    }
    Ok(files)
}

fn generate(
    world: World,
    generator: &mut dyn wit_bindgen_core::WorldGenerator,
) -> anyhow::Result<Vec<(String, Vec<u8>)>> {
    let (mut resolve, id) = contract(world)?;
    let mut files = Files::default();
    generator.generate(&mut resolve, id, &mut files)?;
    Ok(files.iter().map(|(name, bytes)| (name.to_owned(), bytes.to_owned())).collect())
}

#[cfg(test)]
mod tests;

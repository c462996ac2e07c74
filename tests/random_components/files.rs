//! Makes the files. Most are components that meet the contract, with a random module where their code should be.

use super::contract::{EXPORTS, ROLES, component, imports};
use crate::faults::random::Random;
use arbitrary::Unstructured;
use busway::plugin::Kind;
use wasm_smith::{Component, Config, Module};

/// A file, and what kind of one.
pub struct File {
    pub what: &'static str,
    pub bytes: Vec<u8>,
}

/// A component whose second module is to be replaced, and what that one must look like.
struct Shape {
    what: &'static str,
    component: Vec<u8>,
    module: Vec<u8>,
}

pub struct Shapes(Vec<Shape>);

impl Shapes {
    pub fn new() -> Self {
        let mut shapes = Vec::new();
        for (kind, role) in
            [Kind::Handler, Kind::Filter].into_iter().flat_map(|kind| ROLES.iter().map(move |r| (kind, r)))
        {
            let component = wat::parse_str(component(kind, role)).expect("well formed");
            // With the guest's memory and the host's functions, or all by itself.
            for imports in [imports(kind), ""] {
                let module = wat::parse_str(format!("(module {imports} {EXPORTS})")).expect("well formed");
                shapes.push(Shape { what: role.what, component: component.clone(), module });
            }
        }
        Self(shapes)
    }

    pub fn make(&self, random: &mut Random) -> File {
        let bytes: Vec<u8> = (0..512 + random.below(8_000)).map(|_| random.below(256) as u8).collect();
        let mut choices = Unstructured::new(&bytes);
        let config = config(random);
        let kind = random.below(20);
        if kind < 3 {
            let made = Component::new(config, &mut choices).expect("choices never run out: they become zeros");
            return File { what: "raw", bytes: made.to_bytes() };
        }
        let shape = &self.0[random.below(self.0.len())];
        let config = Config { module_shape: Some(shape.module.clone()), ..config };
        let mut module = Module::new(config, &mut choices).expect("choices never run out: they become zeros");
        // A loop that ends by itself is shorter than one that uses up its fuel.
        if random.below(2) == 0 {
            module.ensure_termination(10_000).expect("its functions are not given");
        }
        let mut bytes = replace_second_module(&shape.component, &module.to_bytes());
        if kind > 4 {
            return File { what: shape.what, bytes };
        }
        for _ in 0..1 + random.below(4) {
            let at = random.below(bytes.len());
            bytes[at] ^= 1 << random.below(8);
        }
        File { what: "bent", bytes }
    }
}

/// What the engine has, and now and then something that it does not have.
fn config(random: &mut Random) -> Config {
    let mut rarely = || random.below(20) == 0;
    let config = Config {
        reference_types_enabled: rarely(),
        gc_enabled: rarely(),
        exceptions_enabled: rarely(),
        memory64_enabled: rarely(),
        threads_enabled: rarely(),
        max_memories: if rarely() { 3 } else { 1 },
        max_memory32_bytes: if rarely() { 1 << 32 } else { 32 << 20 },
        max_table_elements: if rarely() { 1_000_000 } else { 1_000 },
        compact_imports_enabled: false,
        disallow_traps: !rarely(),
        generate_custom_sections: rarely(),
        ..Config::default()
    };
    let instructions = [20, 100, 1_000][random.below(3)];
    Config {
        max_instructions: instructions,
        max_funcs: 1 + random.below(30),
        disallow_traps: random.below(3) > 0,
        ..config
    }
}

/// A section is its number, its length, its content; a core module's number is 1.
fn replace_second_module(component: &[u8], module: &[u8]) -> Vec<u8> {
    let (mut made, mut rest, mut modules) = (component[..8].to_vec(), &component[8..], 0);
    while let [id, after @ ..] = rest {
        let (length, bytes) = leb(after);
        let content = &after[bytes..bytes + length];
        modules += usize::from(*id == 1);
        let content = if *id == 1 && modules == 2 { module } else { content };
        made.push(*id);
        write_leb(&mut made, content.len());
        made.extend(content);
        rest = &after[bytes + length..];
    }
    made
}

fn leb(bytes: &[u8]) -> (usize, usize) {
    let length = 1 + bytes.iter().take_while(|byte| **byte & 0x80 != 0).count();
    let value = bytes[..length].iter().rev().fold(0, |value, byte| value << 7 | usize::from(byte & 0x7f));
    (value, length)
}

fn write_leb(made: &mut Vec<u8>, mut value: usize) {
    while value > 0x7f {
        made.push(value as u8 | 0x80);
        value >>= 7;
    }
    made.push(value as u8);
}

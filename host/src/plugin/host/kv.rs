//! `busway:plugin/kv`: the plugin's own namespace, seen through one transaction a call. The transaction begins with the
//! first use, so that a call which never uses it costs nothing.

use super::text::{InvalidText, Texts, decoded};
use super::transcript::value;
use super::{Context, Guest, interface};
use crate::kv::{KvError, Transaction};
use crate::plugin::fault::FaultCode;
use crate::plugin::grants::Capability;
use std::sync::Arc;
use wasmtime::component::{Linker, WasmStr};

/// What an operation costs the host besides its bytes, in bytes: looking up a key among a thousand.
const OPERATION: usize = 256;

type Answer<T> = wasmtime::Result<Result<T, String>>;
type Key = Result<String, InvalidText>;

pub(super) fn add_to_linker(linker: &mut Linker<Guest>) -> wasmtime::Result<()> {
    let mut kv = linker.instance(&interface("kv"))?;
    kv.func_wrap("get", |mut store, (key,): (WasmStr,)| {
        let key = Texts::of(&store).read("key", &key);
        store.data_mut().get(key).map(|answer| (answer,))
    })?;
    kv.func_wrap("set", |mut store, (key, value): (WasmStr, Vec<u8>)| {
        let key = Texts::of(&store).read("key", &key);
        store.data_mut().set(key, value).map(|answer| (answer,))
    })?;
    kv.func_wrap("delete", |mut store, (key,): (WasmStr,)| {
        let key = Texts::of(&store).read("key", &key);
        store.data_mut().delete(key).map(|answer| (answer,))
    })?;
    kv.func_wrap("keys", |mut store, (prefix, after): (WasmStr, Option<WasmStr>)| {
        let mut texts = Texts::of(&store);
        let prefix = texts.read("prefix", &prefix);
        let after = after.map(|after| texts.read("after", &after)).transpose();
        store.data_mut().keys(prefix, after).map(|answer| (answer,))
    })?;
    kv.func_wrap("increment", |mut store, (key, delta): (WasmStr, i32)| {
        let key = Texts::of(&store).read("key", &key);
        store.data_mut().increment(key, delta).map(|answer| (answer,))
    })
}

impl Guest {
    /// Something with a key, for which the guest hands over `bytes` besides. `shown` is what is
    /// told of the answer to whoever watches.
    fn operate<T>(
        &mut self,
        call: &'static str,
        key: Key,
        bytes: usize,
        operation: impl FnOnce(&mut Transaction, String) -> Result<T, KvError>,
        shown: impl FnOnce(&T) -> String,
    ) -> Answer<T> {
        self.spend(decoded(&key) + bytes)?;
        self.work(OPERATION);
        // Only for a trace: the key itself is used up on the way.
        let about = self.call.is_traced().then(|| key.as_ref().map_or_else(|_| String::new(), String::clone));
        let answer = match (self.context.grants.allows(Capability::Kv), key) {
            (Ok(()), Ok(key)) => {
                let Context { namespace, limits, .. } = &*self.context;
                let begin = || Box::new(namespace.begin_within(limits.quota()));
                let transaction = self.call.transaction.get_or_insert_with(begin);
                operation(transaction, key).map_err(|error| error.to_string())
            }
            (Ok(()), Err(invalid)) => {
                let reason = invalid.to_string();
                self.refuse(FaultCode::Lift, &reason)?;
                Err(reason)
            }
            (Err(denied), _) => {
                let reason = denied.to_string();
                self.refuse(FaultCode::Denied, &reason)?;
                Err(reason)
            }
        };
        if let Some(about) = about {
            self.trace_kv(call, &about, &answer, shown);
        }
        Ok(answer)
    }

    fn get(&mut self, key: Key) -> Answer<Option<Vec<u8>>> {
        let shown = |found: &Option<Arc<[u8]>>| found.as_deref().map_or_else(|| "none".into(), value);
        let answer = self.operate("kv.get", key, 0, Transaction::get, shown)?;
        if let Ok(Some(value)) = &answer {
            self.work(value.len());
        }
        Ok(answer.map(|value| value.map(|value| value.to_vec())))
    }

    fn set(&mut self, key: Key, bytes: Vec<u8>) -> Answer<()> {
        self.operate("kv.set", key, bytes.len(), |kv, key| kv.set(key, &bytes), |()| value(&bytes))
    }

    fn delete(&mut self, key: Key) -> Answer<()> {
        self.operate("kv.delete", key, 0, Transaction::delete, |()| "ok".into())
    }

    fn keys(&mut self, prefix: Key, after: Result<Option<String>, InvalidText>) -> Answer<Vec<String>> {
        let (prefix, after) = match (prefix, after) {
            (Ok(prefix), Ok(after)) => (Ok(prefix), after),
            (Err(error), _) | (_, Err(error)) => (Err(error), None),
        };
        let bytes = after.as_ref().map_or(0, String::len);
        let keys = |kv: &mut Transaction, prefix: String| Ok(kv.keys(&prefix, after.as_deref()));
        let answer = self.operate("kv.keys", prefix, bytes, keys, |keys| format!("{} keys", keys.len()))?;
        if let Ok(keys) = &answer {
            self.work(keys.len() * OPERATION);
        }
        Ok(answer)
    }

    fn increment(&mut self, key: Key, delta: i32) -> Answer<i64> {
        let shown = |sum: &i64| format!("{delta:+} = {sum}");
        self.operate("kv.increment", key, 0, |kv, key| kv.increment(key, delta), shown)
    }
}

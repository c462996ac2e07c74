//! `busway:plugin/kv`: the plugin's own namespace, seen through one transaction a call. The transaction begins with the
//! first use, so that a call which never uses it costs nothing.

use super::transcript::value;
use super::{Context, Guest};
use crate::kv::{KvError, Transaction};
use crate::plugin::bindings::handler::busway::plugin::kv;
use crate::plugin::fault::FaultCode;
use crate::plugin::grants::Capability;
use std::sync::Arc;

/// What an operation costs the host besides its bytes, in bytes: looking up a key among a thousand.
const OPERATION: usize = 256;

type Answer<T> = wasmtime::Result<Result<T, String>>;

impl Guest {
    /// Something with a key, for which the guest hands over `bytes`. `shown` is what is told of the answer to whoever watches.
    fn operate<T>(
        &mut self,
        call: &'static str,
        key: String,
        bytes: usize,
        operation: impl FnOnce(&mut Transaction, String) -> Result<T, KvError>,
        shown: impl FnOnce(&T) -> String,
    ) -> Answer<T> {
        self.spend(bytes)?;
        self.work(OPERATION);
        // Only for a trace: the key itself is used up on the way.
        let about = self.call.is_traced().then(|| key.clone());
        let answer = match self.context.grants.allows(Capability::Kv) {
            Ok(()) => {
                let Context { namespace, limits, .. } = &*self.context;
                let begin = || Box::new(namespace.begin_within(limits.quota()));
                let transaction = self.call.transaction.get_or_insert_with(begin);
                operation(transaction, key).map_err(|error| error.to_string())
            }
            Err(denied) => {
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
}

impl kv::Host for Guest {
    fn get(&mut self, key: String) -> Answer<Option<Vec<u8>>> {
        let shown = |found: &Option<Arc<[u8]>>| found.as_deref().map_or_else(|| "none".into(), value);
        let bytes = key.len();
        let answer = self.operate("kv.get", key, bytes, Transaction::get, shown)?;
        if let Ok(Some(value)) = &answer {
            self.work(value.len());
        }
        Ok(answer.map(|value| value.map(|value| value.to_vec())))
    }

    fn set(&mut self, key: String, bytes: Vec<u8>) -> Answer<()> {
        let handed_over = key.len() + bytes.len();
        self.operate("kv.set", key, handed_over, |kv, key| kv.set(key, &bytes), |()| value(&bytes))
    }

    fn delete(&mut self, key: String) -> Answer<()> {
        let bytes = key.len();
        self.operate("kv.delete", key, bytes, Transaction::delete, |()| "ok".into())
    }

    fn keys(&mut self, prefix: String, after: Option<String>) -> Answer<Vec<String>> {
        let bytes = prefix.len() + after.as_ref().map_or(0, String::len);
        let keys = |kv: &mut Transaction, prefix: String| Ok(kv.keys(&prefix, after.as_deref()));
        let answer = self.operate("kv.keys", prefix, bytes, keys, |keys| format!("{} keys", keys.len()))?;
        if let Ok(keys) = &answer {
            self.work(keys.len() * OPERATION);
        }
        Ok(answer)
    }

    fn increment(&mut self, key: String, delta: i32) -> Answer<i64> {
        let bytes = key.len();
        let shown = |sum: &i64| format!("{delta:+} = {sum}");
        self.operate("kv.increment", key, bytes, |kv, key| kv.increment(key, delta), shown)
    }
}

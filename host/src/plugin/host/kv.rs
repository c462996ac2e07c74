//! `busway:plugin/kv`: the plugin's own namespace, seen through one transaction a call. The transaction begins with the
//! first use, so that a call which never uses it costs nothing.

use super::transcript::value;
use super::{Context, Guest};
use crate::kv::{KvError, Transaction};
use crate::plugin::bindings::handler::busway::plugin::kv;
use crate::plugin::fault::FaultCode;
use crate::plugin::grants::Capability;

/// What an operation costs the host besides its bytes, in bytes: looking up a key among a thousand.
const OPERATION: usize = 256;

type Answer<T> = wasmtime::Result<Result<T, String>>;

impl Guest {
    async fn operate<T>(
        &mut self,
        bytes: usize,
        operation: impl FnOnce(&mut Transaction) -> Result<T, KvError> + Send,
    ) -> Answer<T> {
        self.spend(bytes).await?;
        self.work(OPERATION).await;
        if let Err(denied) = self.context.grants.allows(Capability::Kv) {
            let reason = denied.to_string();
            self.refuse(FaultCode::Denied, &reason)?;
            return Ok(Err(reason));
        }
        let Context { namespace, limits, .. } = &*self.context;
        let begin = || Box::new(namespace.begin_within(limits.quota()));
        let transaction = self.call.transaction.get_or_insert_with(begin);
        Ok(operation(transaction).map_err(|error| error.to_string()))
    }
}

impl kv::Host for Guest {
    async fn get(&mut self, key: String) -> Answer<Option<Vec<u8>>> {
        let answer = self.operate(key.len(), |kv| kv.get(&key)).await?;
        let answer = answer.map(|value| value.map(|value| value.to_vec()));
        self.trace_kv("kv.get", &key, &answer, |found| found.as_deref().map_or_else(|| "none".into(), value));
        if let Ok(Some(value)) = &answer {
            self.work(value.len()).await;
        }
        Ok(answer)
    }

    async fn set(&mut self, key: String, bytes: Vec<u8>) -> Answer<()> {
        let answer = self.operate(key.len() + bytes.len(), |kv| kv.set(&key, &bytes)).await?;
        self.trace_kv("kv.set", &key, &answer, |()| value(&bytes));
        Ok(answer)
    }

    async fn delete(&mut self, key: String) -> Answer<()> {
        let answer = self.operate(key.len(), |kv| kv.delete(&key)).await?;
        self.trace_kv("kv.delete", &key, &answer, |()| "ok".into());
        Ok(answer)
    }

    async fn keys(&mut self, prefix: String, after: Option<String>) -> Answer<Vec<String>> {
        let bytes = prefix.len() + after.as_ref().map_or(0, String::len);
        let answer = self.operate(bytes, |kv| Ok(kv.keys(&prefix, after.as_deref()))).await?;
        self.trace_kv("kv.keys", &prefix, &answer, |keys| format!("{} keys", keys.len()));
        if let Ok(keys) = &answer {
            self.work(keys.len() * OPERATION).await;
        }
        Ok(answer)
    }

    async fn increment(&mut self, key: String, delta: i32) -> Answer<i64> {
        let answer = self.operate(key.len(), |kv| kv.increment(&key, delta)).await?;
        self.trace_kv("kv.increment", &key, &answer, |sum| format!("{delta:+} = {sum}"));
        Ok(answer)
    }
}

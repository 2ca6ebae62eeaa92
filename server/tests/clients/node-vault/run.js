// What a Node service does with node-vault, unmodified, against a real server. Its modules are in the folder that
// SEALWIRE_TEST_NODE names.
'use strict';

const assert = require('node:assert');
const { createRequire } = require('node:module');
const path = require('node:path');
const load = createRequire(path.join(process.env.SEALWIRE_TEST_NODE, 'package.json'));

const b64 = (text) => Buffer.from(text).toString('base64');
const text = (b) => Buffer.from(b, 'base64').toString();
const done = (step) => console.log('ok:', step);

async function refused(status, call) {
  try {
    await call();
  } catch (error) {
    assert.strictEqual(error.response && error.response.statusCode, status, String(error));
    return error;
  }
  throw new Error(`not refused with ${status}`);
}

async function main() {
  const vault = load('node-vault')({ endpoint: process.env.VAULT_ADDR });
  assert.strictEqual((await vault.initialized()).initialized, true);
  assert.strictEqual((await vault.status()).sealed, false);
  assert.strictEqual((await vault.health()).sealed, false);
  const [role_id, secret_id] = [process.env.VAULT_ROLE_ID, process.env.VAULT_SECRET_ID];
  await refused(400, () => vault.approleLogin({ role_id, secret_id: 'wrong' }));
  const login = await vault.approleLogin({ role_id, secret_id });
  assert.strictEqual(vault.token, login.auth.client_token);
  assert.strictEqual((await vault.tokenLookupSelf()).data.id, vault.token);
  await vault.tokenRenewSelf();
  await vault.tokenRenewSelf({ increment: 7200 });
  done('login');

  const name = 'node-chat';
  await vault.transitCreateKey({ name, derived: true });
  const key = (await vault.transitReadKey({ name })).data;
  assert.strictEqual(key.latest_version, 1);
  assert.ok((await vault.transitListKeys()).data.keys.includes(name));
  assert.ok((await vault.mounts())['transit/']);
  done('create');

  const context = b64('会话 7');
  const message = '你好，世界 👋';
  const sealed = await vault.encryptData({ name, plaintext: b64(message), context });
  const { ciphertext } = sealed.data;
  assert.match(ciphertext, /^vault:v1:/);
  done('encrypt unicode');

  const opened = await vault.decryptData({ name, ciphertext, context });
  assert.strictEqual(text(opened.data.plaintext), message);
  done('decrypt');

  await refused(400, () => vault.decryptData({ name, ciphertext, context: b64('会话 8') }));
  await refused(400, () => vault.encryptData({ name, plaintext: b64(message) }));
  done('wrong context');

  const associated_data = b64('消息 42');
  const bound = (await vault.encryptData({ name, plaintext: b64(message), context, associated_data }))
    .data.ciphertext;
  await vault.decryptData({ name, ciphertext: bound, context, associated_data });
  await refused(400, () => vault.decryptData({ name, ciphertext: bound, context }));
  done('associated data');

  const batch_input = [
    { plaintext: b64('一'), context },
    { plaintext: 'not base64!', context },
    { plaintext: b64('三'), context },
  ];
  const error = await refused(400, () => vault.encryptData({ name, batch_input }));
  const results = error.response.body.data.batch_results;
  assert.deepStrictEqual(results.map((result) => 'error' in result), [false, true, false]);
  const partly = { name, batch_input, partial_failure_response_code: 200 };
  assert.strictEqual((await vault.encryptData(partly)).data.batch_results.length, 3);
  const again = [results[0], results[2]].map((result) => ({ ciphertext: result.ciphertext, context }));
  const all = await vault.decryptData({ name, batch_input: again });
  assert.deepStrictEqual(all.data.batch_results.map((result) => text(result.plaintext)), ['一', '三']);
  done('batch with one bad item');

  await vault.write(`transit/keys/${name}/rotate`);
  assert.strictEqual((await vault.transitReadKey({ name })).data.latest_version, 2);
  done('rotate');

  const rewrapped = (await vault.rewrapData({ name, ciphertext, context })).data.ciphertext;
  assert.match(rewrapped, /^vault:v2:/);
  done('rewrap');

  await vault.write(`transit/keys/${name}/config`, { min_decryption_version: 2 });
  await refused(400, () => vault.decryptData({ name, ciphertext, context }));
  await vault.decryptData({ name, ciphertext: rewrapped, context });
  done('minimum version');

  const data = (await vault.write(`transit/datakey/plaintext/${name}`, { context })).data;
  const back = await vault.decryptData({ name, ciphertext: data.ciphertext, context });
  assert.strictEqual(back.data.plaintext, data.plaintext);
  done('datakey');

  const no = await refused(400, () => vault.transitDeleteKey({ name }));
  assert.match(no.message, /deletion is not allowed/);
  await vault.write(`transit/keys/${name}/config`, { deletion_allowed: true });
  await vault.transitDeleteKey({ name });
  await refused(404, () => vault.transitReadKey({ name }));
  done('refused delete');

  await vault.tokenRevokeSelf();
  await refused(403, () => vault.tokenLookupSelf());
  done('logout');
}

main().catch((error) => {
  console.error(error);
  process.exit(1);
});

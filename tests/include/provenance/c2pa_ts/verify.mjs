// Verifies MP4 files with c2pa-ts, which shares no code with the library that signs.
// One JSON object a line: {file, valid, manifest, failures}. It does not judge trust, only integrity.
import fs from 'node:fs/promises';
import path from 'node:path';
import { BMFF } from '@trustnxt/c2pa-ts/asset';
import { SuperBox } from '@trustnxt/c2pa-ts/jumbf';
import { ManifestStore, ValidationResult } from '@trustnxt/c2pa-ts/manifest';

// Its reader knows only a few brands; ours are ordinary ones.
for (const brand of ['isom', 'iso2', 'iso5', 'iso6', 'mp41', 'mp42', 'avc1']) BMFF.canReadBrands.add(brand);

async function check(file) {
  const buffer = await fs.readFile(file);
  if (!(await BMFF.canRead(buffer))) return { valid: false, manifest: false, failures: ['not an MP4'] };
  const asset = BMFF.create ? await BMFF.create(buffer) : new BMFF(buffer);
  const jumbf = await asset.getManifestJUMBF();
  if (!jumbf) return { valid: false, manifest: false, failures: ['no manifest'] };
  let result;
  try {
    const store = ManifestStore.read(SuperBox.fromBuffer(jumbf));
    result = await store.validate(asset);
  } catch (error) {
    result = ValidationResult.fromError(error);
  }
  const failures = result.statusEntries.filter((entry) => entry.success === false);
  return { valid: result.isValid, manifest: true, failures: failures.map((entry) => entry.code) };
}

for (const file of process.argv.slice(2)) {
  let outcome;
  try {
    outcome = await check(file);
  } catch (error) {
    outcome = { valid: false, manifest: false, failures: [String(error.message ?? error)] };
  }
  console.log(JSON.stringify({ file: path.basename(file), ...outcome }));
}

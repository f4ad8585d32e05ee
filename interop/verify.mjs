// Verifies tokens with nothing but Node's crypto and the public_key that came
// with them. Reads a JSON array of {alg, public_key, token} from standard input
// and writes one of {verified, claims} to standard output.
import { constants, createPublicKey, verify } from 'node:crypto';
import { readFileSync } from 'node:fs';

const pss = (bytes) => ({ padding: constants.RSA_PKCS1_PSS_PADDING, saltLength: bytes });
const raw = { dsaEncoding: 'ieee-p1363' };
const algorithms = {
  RS256: ['sha256', {}],
  RS384: ['sha384', {}],
  RS512: ['sha512', {}],
  PS256: ['sha256', pss(32)],
  PS384: ['sha384', pss(48)],
  PS512: ['sha512', pss(64)],
  ES256: ['sha256', raw],
  ES384: ['sha384', raw],
  ES512: ['sha512', raw],
  EdDSA: [null, {}],
};

const answers = JSON.parse(readFileSync(0, 'utf8')).map(({ alg, public_key, token }) => {
  const [header, payload, signature] = token.split('.');
  const [digest, options] = algorithms[alg];
  const key = createPublicKey(Buffer.from(public_key, 'base64').toString('ascii'));
  const verified =
    JSON.parse(Buffer.from(header, 'base64url').toString('utf8')).alg === alg &&
    verify(digest, Buffer.from(`${header}.${payload}`), { key, ...options }, Buffer.from(signature, 'base64url'));
  return { verified, claims: verified ? JSON.parse(Buffer.from(payload, 'base64url').toString('utf8')) : null };
});
process.stdout.write(JSON.stringify(answers));

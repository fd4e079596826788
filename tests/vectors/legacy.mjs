// Prints the v1 and v2-foreign texts of legacy.json, made by Node's own crypto the way the systems did that wrote them.
// node tests/vectors/legacy.mjs
import { createCipheriv } from 'node:crypto'
import { readFileSync } from 'node:fs'

const vectors = JSON.parse(readFileSync(new URL('legacy.json', import.meta.url)))
const iv = Buffer.from(Array.from({ length: 16 }, (_, n) => 0x10 + n))

function sealed(key, ivSize, plaintext) {
  const cipher = createCipheriv('aes-256-gcm', key, iv.subarray(0, ivSize))
  const data = Buffer.concat([cipher.update(plaintext, 'utf8'), cipher.final()])
  return { iv: iv.subarray(0, ivSize), data, tag: cipher.getAuthTag() }
}

const encodings = {
  hex: (part) => part.toString('hex'),
  base64: (part) => part.toString('base64'),
  'base64 without padding': (part) => part.toString('base64').replace(/=+$/, ''),
  base64url: (part) => part.toString('base64url'),
}

for (const { iv_size, order, encoding, plaintext } of vectors.v1.texts) {
  const parts = sealed(Buffer.from(vectors.v1.encryption_key.hex, 'hex'), iv_size, plaintext)
  const named = { iv: parts.iv, data: parts.data, authTag: parts.tag }
  console.log(order.split(':').map((name) => encodings[encoding](named[name])).join(':'))
}
const foreign = vectors['v2-foreign']
for (const { iv_size, layout, plaintext } of foreign.texts) {
  const parts = sealed(Buffer.from(foreign.dek, 'hex'), iv_size, plaintext)
  const ciphertext = Buffer.concat(layout.split(' ').map((name) => parts[name]))
  console.log(`kms:v2:${Buffer.from(foreign.blob, 'hex').toString('base64')}:${ciphertext.toString('base64')}`)
}

// Written by generate.py from attestation/ and crates/attest. Not to be edited.

/** attestation/policy.toml. */
export const POLICY = {
 "platforms": [
  "tdx",
  "snp"
 ],
 "fresh_nonce": "required",
 "keyset": {
  "max_lifetime_secs": 90000,
  "builds": "any"
 },
 "configuration": {
  "digests": [
   "608da0a229653975399fd0fd6e28ca5c45ea3cd24fd1034c6d5d5f84785784bb",
   "2067241c1601dd5bd18c2d59a58565b8b26f9b69c24bdbf590db7fcdf2849b7f",
   "137e6455d3ce2a43e62305678e8f80a0f7f0982447f2f93402451142e0a44482"
  ]
 },
 "model": {
  "manifests": []
 },
 "tdx": {
  "tcb_statuses": [
   "UpToDate"
  ],
  "advisories": [],
  "min_tcb_evaluation_data_number": 17,
  "dynamic_platform": "refuse",
  "cached_keys": "allow",
  "smt": "allow",
  "rtmr3_model_event": "required",
  "hardware": "any",
  "releases": []
 },
 "snp": {
  "min_report_version": 3,
  "crl": "required",
  "smt": "allow",
  "hardware": "any",
  "releases": [],
  "min_tcb": {}
 },
 "gpu": {
  "evidence": "required",
  "reference_measurements": "not appraised",
  "revocation": "not appraised"
 }
};

/** attestation/simulated.toml: the rules for simulated nodes, for those who ask for them. */
export const SIMULATED_POLICY = {
 "platforms": [
  "simulated"
 ],
 "fresh_nonce": "required",
 "keyset": {
  "max_lifetime_secs": 90000,
  "builds": "any"
 },
 "configuration": {
  "digests": "any"
 },
 "model": {
  "manifests": "any"
 },
 "tdx": {
  "tcb_statuses": [
   "UpToDate"
  ],
  "advisories": [],
  "min_tcb_evaluation_data_number": 1,
  "dynamic_platform": "refuse",
  "cached_keys": "refuse",
  "smt": "refuse",
  "rtmr3_model_event": "required",
  "hardware": "any",
  "releases": [
   {
    "name": "simulated",
    "mrtd": "e3c893c627ee5aae60c944c0786c3a4a3f1ae2ea0aaced72a1d8928b136ff2673922e6ede442e71f5a3886022f67be0c",
    "rtmr0": "bc3df886cb6ce05f05e2bb64d3258aedcca561d9236dbfa93a095276557adb6e6c6a372318119f7f61e6df5c09801d99",
    "rtmr1": "576502217ce13eb7e144c5cb26465e56b692069bc0f1cf3b0da81555b5e55769a290b013ee048679e5a135b1c690bb63",
    "rtmr2": "b1008629d3c34dafa40ef04aa5fedbf77371f0bc2bc83c2d075571e333c13e9a1c9218cd365aedde640f62f537ac1d30",
    "mrconfigid": [
     "0".repeat(96)
    ],
    "mrowner": [
     "0".repeat(96)
    ],
    "mrownerconfig": [
     "0".repeat(96)
    ],
    "xfam": [
     "0".repeat(16)
    ],
    "td_attributes": [
     "0000001000000000"
    ],
    "mrseam": [
     "0".repeat(96)
    ],
    "mrsignerseam": [
     "0".repeat(96)
    ],
    "seam_attributes": [
     "0".repeat(16)
    ]
   }
  ]
 },
 "gpu": {
  "evidence": "optional",
  "reference_measurements": "not appraised",
  "revocation": "not appraised"
 }
};

/** Intel SGX Root CA. Names and keys are base64 of DER, serial numbers hex. */
export const INTEL = { subject: "MGgxGjAYBgNVBAMMEUludGVsIFNHWCBSb290IENBMRowGAYDVQQKDBFJbnRlbCBDb3Jwb3JhdGlvbjEUMBIGA1UEBwwLU2FudGEgQ2xhcmExCzAJBgNVBAgMAkNBMQswCQYDVQQGEwJVUw==", serial: "22650cd65a9d3489f383b49552bf501b392706ac", from: 1526899510, until: 2524607999, spki: "MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEC6nEwMDIYZOj/iPWsCzaEKi71OiOSLRFhWGjbnBVJfVnkY4u3IjkDYYL0MxO4mqsyYjlBalTVYxFP2sJBK5zlA==" };

/** What simulated quotes lead to: «SIMULATED - NOT A TEE». Its key is published. */
export const SIMULATED = { subject: "MCAxHjAcBgNVBAMMFVNJTVVMQVRFRCAtIE5PVCBBIFRFRQ==", serial: "01", from: 1767225600, until: 2713910400, spki: "MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEgr2QIz8sJ3tnKoNz/9/MS1dhCsKIfbGJmr3FHGP4D0EHF/Q2ypVK016Jsu7ZjaEEKF7hok8PGihQgLlrHt2EbQ==" };

/** NVIDIA Device Identity CA. */
export const NVIDIA = { subject: "MDUxIjAgBgNVBAMMGU5WSURJQSBEZXZpY2UgSWRlbnRpdHkgQ0ExDzANBgNVBAoMBk5WSURJQQ==", serial: "2d3670b1ca100411c1fec0e82a065b54", from: 1636070400, until: 253402300799, spki: "MHYwEAYHKoZIzj0CAQYFK4EEACIDYgAEDkwUozv4pWJmWNtBKWB+TL9FGcRBJxb00NkXxJeABb3qvq79V7xmCC1xik+LYFLhUW7op8QiuE3oVwcbtY/Tlb6gz6HGPufIDWvWOQHZHLvRh9OFfcFrXM6vI4/4wn29" };

/** Every check there is, by its id: crates/attest/src/verify/check.rs. */
export const TITLES = {
  "report.format": "the report has the form this verifier reads",
  "platform.allowed": "the policy trusts this kind of TEE",
  "nonce.fresh": "the verifier chose the nonce",
  "nonce.path": "the report leads the verifier's nonce to the root it binds",
  "keyset.format": "the keyset names an X25519 and an Ed25519 key",
  "keyset.possession": "the keyset is signed by its own Ed25519 key",
  "keyset.valid_now": "the keyset is valid now",
  "keyset.lifetime": "the keyset lives no longer than the policy grants",
  "keyset.build": "the policy trusts this build",
  "configuration.digest": "the policy trusts how the node is configured",
  "model.manifest": "the policy trusts this model's files",
  "tls.key": "the connection ends at the TLS key that the keyset names",
  "binding.report_data": "the quote binds nonces, keyset, model and GPU evidence",
  "tdx.quote": "Intel's keys signed the quote, and vouch for the platform",
  "simulated.quote": "published keys signed the quote: no hardware vouches",
  "tdx.attributes": "the guest is closed to debuggers and profilers",
  "tdx.collateral": "all collateral has begun, and is not due for renewal",
  "tdx.tcb_status": "the platform's firmware has a status the policy allows",
  "tdx.advisories": "the policy allows Intel's open advisories",
  "tdx.tcb_evaluation": "the platform was judged by recent enough data",
  "tdx.dynamic_platform": "packages added later are as the policy says",
  "tdx.cached_keys": "keys cached by Intel are as the policy says",
  "tdx.smt": "hyperthreading is as the policy says",
  "tdx.release": "MRTD and RTMR0 to 2 are those of a trusted release",
  "tdx.platform": "MRTD and RTMR0 are those of a trusted platform",
  "tdx.image": "RTMR1 and RTMR2 are those of a trusted image",
  "tdx.mrconfigid": "MRCONFIGID is as the release says: what the host configured",
  "tdx.mrowner": "MROWNER is as the release says",
  "tdx.mrownerconfig": "MROWNERCONFIG is as the release says",
  "tdx.xfam": "XFAM is as the release says: which processor state the guest may use",
  "tdx.td_attributes": "TDATTRIBUTES are as the release says, bit by bit",
  "tdx.mrseam": "MRSEAM is as the release says: the TDX module",
  "tdx.mrsignerseam": "MRSIGNERSEAM is as the release says",
  "tdx.seam_attributes": "SEAMATTRIBUTES are as the release says",
  "tdx.rtmr3": "RTMR3 is the replayed event log, and holds the model manifest",
  "tdx.hardware": "the policy trusts this machine",
  "snp.report": "the report is whole, and recent enough in form",
  "snp.signing_key": "the chip's own key signs (VCEK), and no other",
  "snp.chain": "AMD's pinned root signed the chip's key",
  "snp.crl": "AMD has revoked none of the keys",
  "snp.chip": "the chip's certificate is of this chip and this firmware",
  "snp.signature": "the chip's key signed the report",
  "snp.guest_policy": "no debugging, no migration agent, VMPL 0",
  "snp.smt": "hyperthreading is as the policy says",
  "snp.tcb": "the firmware is no older than the policy allows",
  "snp.release": "the launch measurement is that of a trusted release",
  "snp.host_data": "HOST_DATA is as the release says: what the host configured",
  "snp.family_id": "FAMILY_ID is as the release says",
  "snp.image_id": "IMAGE_ID is as the release says",
  "snp.id_key_digest": "ID_KEY_DIGEST is as the release says",
  "snp.author_key_digest": "AUTHOR_KEY_DIGEST is as the release says",
  "snp.hardware": "the policy trusts this machine",
  "gpu.evidence": "GPU evidence is there, and readable",
  "gpu.chain": "NVIDIA's pinned root signed each GPU's key",
  "gpu.distinct": "each report is of a GPU of its own",
  "gpu.firmware": "each GPU's certificate is of the firmware it runs",
  "gpu.signature": "each GPU's key signed its report",
  "gpu.nonce": "each GPU was challenged with these nonces and keyset",
  "gpu.reference": "measurements compared with NVIDIA's reference (RIM)",
  "gpu.revocation": "revocation asked of NVIDIA (OCSP)",
  "gpu.locality": "what GPU evidence does not show",
} as const;

/** How AMD's names begin, and how an RSA key of 4,096 bits does. */
const AMD_NAME = "MHsxFDASBgNVBAsMC0VuZ2luZWVyaW5nMQswCQYDVQQGEwJVUzEUMBIGA1UEBwwLU2FudGEgQ2xhcmExCzAJBgNVBAgMAkNBMR8wHQYDVQQKDBZBZHZhbmNlZCBNaWNybyBEZXZpY2VzMRIwEAYDVQQD";
const RSA_4096 = "MIICIjANBgkqhkiG9w0BAQEFAAOCAg8AMIICCgKCAgEA";

/** AMD's root and signing keys, by generation of processors. */
export const AMD = [
  { generation: "milan", ark: { subject: AMD_NAME + "DAlBUkstTWlsYW4=", serial: "010000", from: 1603387385, until: 2392305785, spki: RSA_4096 + "0Ld52RJOdeiJlqK2JdsVmD7FktuotWwX1fNgW41XY9Xz1HEhSUmhLz9Cu9DHRlvgJSNxbeYYsnJfvyjx1MfU0V5tkKiU1EesNFta1kTA0szNisdYc9isqk7mXT5+KfGRbfc4V/9zRIcE8jlHN61S1ju8X93+6dxDUrG2SzxqJ4BhqyYmUDruPXJSX4vUc01P7j98MpqOS95rORdGHeI52Naz5m2B+O+vjsC060d37jY9LFeuOP4Meri8qgfi2S5kKqg/aF6aPtuAZQVR7u3KFYXP59XmJgtcog05gmI0T/OitLhuzVvpZcLph0odh/1IPXqx3+MnjD97A7fXpqGd/y8KxX7jksTEzAOgbKAeam3lm+3yKIcTYMlsRMXPcjNbIvmsBykD//xSniusuHBkgnlENEWx1UcbQQrs+gVDkuVPhsnzIRNgYvM48Y+7LGiJYnrmE8xcrexekBxrva2V9TJQqnN3Q53kt5viQi3+gCfmkwC0F0tirIZbLkXPrPwzZ0M9eNxhIySb2npJfgnqz55I0u33wh4r0ZNQeTGfw03MBUtyuzGesGkcw+loqMaq1qR4tjGbPYxCvpCq7+OgpCCoMNit2uLo9M18fHz10lOMT8nWAUvRZFzteXCm+7PHdYPlmQwUw3LvenJ/ILXoQPHfbkH0CyPfhl1jWhJFZasCAwEAAQ==" }, ask: { subject: AMD_NAME + "DAlTRVYtTWlsYW4=", serial: "010001", from: 1603391060, until: 2392309460, spki: RSA_4096 + "nU2drrNTfbhNQIllf+W2y+ROCbSzId1aKZft2T9zjZQOzjGccl17i1mIKWl7NTcB0VYXt3JxZSzOZjsjLNVAEN2MGj9TiedL+QewKZX0JmQEuYjm+WKksLtxgdLp9E7EZNwNDqV1r0qRP5tB8OWkyQbIdLeu4aCz7j/Sl1FkBytev9sbFGzt7cwnjzi9m7noqsk+uRVBp3+In35QPdcj8YflEmnHBNvuUDJhLCJMW8KOjP6++Phbs3iCitJcANEtW4qTNFoKW3CHlbcSCjTM8KsNbUx3A8ek5EVLjZWH1pt9E3TfpR6XyfQKnY6kl5aEIPwdW3eFYaqCFPrIo9pQT6WuDSP4JCYJbZneKKIbZjzXkJt3NQG32EukYImBb9SCkm9+fS5LZFg9ojzubMX3+NkBoSXI7OPvnHMxjup9mw5se6QUV7GqpCA2TNypolmuQ+cAaxV7JqHE8dl9pWf+Y3arb+9iiFCwFt4lAlJw5D0CTRTC1Y5YWFDBCrA/vGnmTnqG8C+jjUAS7cjjR8q4OPhyDmJRPnaC/ZG5uP0K0z6GoO/3uen9wqshCuHegLTpOeHEJRKrQFr4PVIwVOB0+ebO5FgoyOw43nyFD5UKBDxEB4BKo/0uAiKHLRvvgLbORbU8KARIs1EoqEjmF8UtrmQWV2hUjwzqwvHFei8rPxMCAwEAAQ==" } },
  { generation: "genoa", ark: { subject: AMD_NAME + "DAlBUkstR2Vub2E=", serial: "020000", from: 1643211277, until: 2432129677, spki: RSA_4096 + "3Cd95S/uFOuRIskW9vz9VDBF69NDQF79oRhL/L2PVQGhK3YdfEBgpF/JiwWFBsT/fXDhzA01p3LkcT/7LdjcRfKXjHl+0Qq/M4dZkh6QDoUeKzNBLDcBKDDGWo3v35NyrxbA1DnkYwUKU5AAk4P94tKXLp80oxt84ahyHoLmc/LqsGsp+oq1Bz4PPsYLwTG4iMKVaaT90/oZ4I8oibSru92vJhlqWO27d/Rxc3iUMyhNeGToOvgx/iUo4gGpG61NDpkEUvIzuKcaMx8IdTpWg2DF6SwF0IgVMffnvtJmA68BwJNWo1E4PLJdaPfBifcJpuBFwNVQIPQEVX3aP89HJSp8YbY9lySS6PlVEqTBBtaQmi4ATGmMR+n2K/e+JAhU2Gj7jIpJhOkdH9firQDnmlA2SFfJ/Cc0mGNzW9RmIhyOUnNFoclmkRhl3/AQU5Ys9Qsan1jT/EiyT+pCpmnA+y9edvhDCbOG8F2oxHGRdTBkylungrkXJGYiwGrR8kaiqv7NN8QhOBMqYjcbrkEr0f8QMKklIS5ruOfqlLMCBw8JLB3LkjpWgtD7OpxkzSsohN47Uom86RY6lp72g8eXHP1qYrnvhzaG1S70vw6OkbaaC9EjiH/uHgAJQGxon7u0Q7xgoREWA/e7JcBQwLg80Hq/sbRuqesxz7wBWSY254cCAwEAAQ==" }, ask: { subject: AMD_NAME + "DAlTRVYtR2Vub2E=", serial: "020002", from: 1667223228, until: 2456141628, spki: RSA_4096 + "oHJhvk4Fwwkwb03AMfLySXJSXmEaCZMTRbLgPaj4oEzaD9tGfxCSw/nsCAiXHQaWUt++bnbjJO05TKT5d+Cdrz4/fiRBpbhf0xzvh11O+wJTBPj3uCzDm48vEZ8l5SXMO4wd/QqwsrejFERPD/Hdfv1mGCMW7ac0ug8trDzqGe+l+p8NMjp/EqBDY2vd8hLaVLmS+XjAqlYVNRksh9aTzSYL19/cTrBDmqQ2y8k23zNl2lW6q/BtQOpWGVs3EWvBHb/Qnf3f3S9+lC4H2jdDy9yn7kqyTWq4WCBnE4qhYJRokulYtzMZM1Ilk4Z6RPkOTR1MJ4gdFtj7lKmrkSuOoJYmqhJIsQJ854lAbJybgU7zyzWAwu3uaslkYKUEAQf2ja5Hyl3IBqOzpqY31SpKzbl8NXveZybRMklwfe4iDLI25T9ku9CVetDYifCbdGeuHdTwZBBemW4NE57L7iEV8+zz8nxng8OMX//4pXntWqmQbEAnBLv2ToTgd1H2zYRthyDLc3V119/+FnTW17LK6bKzTCgEnCHQEcAt0hDQLLF799+2lZTxxfBEoduAZax6IjgAMCi6e1ZfKPJSkdvb2m3BwfP8bniG7+AEJv1WOEmnBJc1pVQCttbJUodbi07Vfen5JRUqAvSM3ObWQOzSAGzsGnpIigwFpW6m9F7uYVUCAwEAAQ==" } },
  { generation: "turin", ark: { subject: AMD_NAME + "DAlBUkstVHVyaW4=", serial: "030000", from: 1684180992, until: 2473185792, spki: RSA_4096 + "waAriB7EIuVc4ZB1wD3YfDxL+9eyS7+izm0Jj3W772NINCWl8Bj3w/JD2ZjmbRxWdIq/4d9iarCKorXloJUB1jRdgxqccTx1aOoig4+2w1XhVVJT7K457wT5ZLNJgQaxqa9Etkwjd6+9sOhlCDE9l43kQ0R2BikVJa/uyyVOSwEk5w5tXKOuG9jvq6QtAMJasW38wlqRDaKEGtZ9VUgGon27ZuL4sTJuC/azz9/iQBw8kEilzOl95AiTkeY5jSEBDWbAqnZk5qlM7kISKG20kgQm14mhNKDI2p2oua+zuAG7i52epoRF2GfU0TYk/yf+vCNB2tnechFQuP2e8bLk95ZdqPi9/UWw4JXjtdEA4u2JYplSSUPQVAXKt6LVqujtJcM59JKr2u0XQ75KwxcMp15gSXhBfInvPAwuAY4dEwwGqT8oIg4esPHwEsmChhYeDIxPG9R4fx9O0q6p8Gb+HXlTiS47P9YNeOpidOUKzDl/S1OvyhDtSL8LJc24QATFydo/iD/KUdvFTRlD0crkAMkZLoWQ8hLDGc6BZJXsdd7Zf2e4UW3tI/1oh/2t23Ot3zyhTcv5gDbABu0LjVe98uRnS15SMwK//lJt9e5BqKvgABkSoABf+B4VFtPVEX0ygrYaFaI9i5ABrxnVBmzXpRb21iI1NlNCfOGUPIhVpWECAwEAAQ==" }, ask: { subject: AMD_NAME + "DAlTRVYtVHVyaW4=", serial: "030001", from: 1684182321, until: 2473187121, spki: RSA_4096 + "nvg5Grv2Emd9lAhKdO64RXU3UESb6JTm0Hhzevx1PyxinxYqJL329qTJM0XmdozLYb7rsHxgM5I2pU18M8gect2pN/YB2LQ1/bIq37TPDbg7ym0MN6KkZ6aERxAX0voYtdDyNxjDAUjpRpCe1FccAev/Es2n/Fz1G1TmC2XepTQqaKpmt6mnDWSCHCVsQoY0gSibeaG6doM6OiNUCbKXaC7KHH5b/96BD1DJ84M+JHqPClFhHqUJwzKF5Qxj4wgWAZzK8UPhiNGjrF6+TBdlFGdSzEqw1jOrCTHduYyLK+5OQ3OIw4S+vZeOVoxJajTIWdsqYP2DLc0HkL0qWOumEOrrc2/4DeETShB0MyIpH05kSalyQN2eN5P6ptOB84hddCdbJPEepnD+FqQap1ukw3K8uBcgeBSAF23r6UtT8Uc5h7MsWX3MoZiEHcSkDQQ8IedTk7CLjsK6S7b/lfKqfYiRhKgGkRvsEd/MDNcumHZKIgzasJwgagzSggiUo9jXp3EWm84fqyxNXzSutPB7qD5P/ULAB+q9QgvrzC8XneaLP0MNrHhM80UejmsBTIktMvFoWVIelYDLdcoi0eMD5DRccfsgrYaY6h/+/qf9tgg+mX09UJpuSPRF38oyqnNNFMl5v/tWLgUsChPU6NCQC17Qaqr8mu2ynyyuHEs5JVUCAwEAAQ==" } },
];

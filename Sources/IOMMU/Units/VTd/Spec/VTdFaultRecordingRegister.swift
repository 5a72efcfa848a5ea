// SPDX-License-Identifier: Apache-2.0

/// VT-d §11.4.7.6 Fault Recording Register: one recorded fault, 128 bits.
package struct VTdFaultRecordingRegister: Hashable, Sendable {
  /// FI, [63:12]: the page address.
  package let lower: UInt64
  /// SID [79:64], T2 [92], PRIV [93], EXE [94], PP [95], FR [103:96], PV [123:104], AT [125:124],
  /// T1 [126], F [127].
  package let upper: UInt64

  package init(_ record: FaultRecord) {
    lower = record.iova.rawValue & ~0xfff
    var upper = UInt64(record.requester.rawValue)
    if let pasid = record.pasid {
      upper |= 1 << 31 | UInt64(pasid.rawValue & 0xf_ffff) << 40
      if record.isPrivileged { upper |= 1 << 29 }
      if record.executes { upper |= 1 << 30 }
    }
    upper |= UInt64(record.reason.code) << 32
    // T1 and T2 are clear for a write. T1 is set and T2 is clear for a read.
    if !record.writes { upper |= 1 << 62 }
    upper |= UInt64(record.addressType.rawValue) << 60
    self.upper = upper | 1 << 63
  }
}

// SPDX-License-Identifier: Apache-2.0

/// The accesses that a mapping allows, or the access that a request makes. PCIe has no execute-only
/// DMA.
///
/// First-stage tables distinguish requests with privileged mode from others (PCIe 6 §6.20.2: PMR
/// and ER). Tables without the distinction use only `read` and `write`, for both kinds of requests.
package struct Permissions: OptionSet, Hashable, Sendable, BitwiseCopyable {
  package let rawValue: UInt8
  @inline(__always) package init(rawValue: UInt8) { self.rawValue = rawValue }
  package static let read = Permissions(rawValue: 1)
  package static let write = Permissions(rawValue: 2)
  package static let execute = Permissions(rawValue: 4)
  package static let privilegedRead = Permissions(rawValue: 8)
  package static let privilegedWrite = Permissions(rawValue: 16)
  package static let privilegedExecute = Permissions(rawValue: 32)

  /// Writes with and without privilege.
  static let anyWrite: Permissions = [.write, .privilegedWrite]

  /// The unprivileged accesses, as privileged ones.
  @inline(__always)
  package var privileged: Permissions {
    Permissions(rawValue: (rawValue & 7) &<< 3)
  }

  /// All accesses, as unprivileged ones: the request that a second stage without privilege levels
  /// checks.
  @inline(__always)
  var unprivileged: Permissions { Permissions(rawValue: (rawValue | rawValue &>> 3) & 7) }

  /// The unprivileged accesses, with and without privilege: the rights that a second stage without
  /// privilege levels gives.
  @inline(__always)
  var forBothPrivilegeLevels: Permissions {
    Permissions(rawValue: rawValue & 7 | (rawValue & 7) &<< 3)
  }
}

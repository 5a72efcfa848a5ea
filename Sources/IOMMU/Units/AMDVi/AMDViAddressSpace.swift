// SPDX-License-Identifier: Apache-2.0

/// A resolved address space: the meaning of a device table entry, and of a guest CR3 entry if the
/// request uses guest tables, for the requests of one device with one PASID. The unit caches it.
struct AMDViAddressSpace: BitwiseCopyable {
  enum TranslationType: UInt8, BitwiseCopyable {
    /// Addresses are system physical addresses.
    case passThrough
    case host
    case guest
    /// Guest tables whose addresses the host table translates.
    case nested
  }

  let translationType: TranslationType
  let requester: RequesterID
  let domain: DomainID
  /// The PASID of the guest tables, which is 0 for requests without PASID that use guest tables.
  /// `nil` without guest tables.
  let pasid: PASID?
  /// IR and IW, as permissions.
  let allowed: Permissions
  /// Whether the guest tables translate zero-extended addresses, as for requests without PASID,
  /// instead of sign-extended ones.
  let isZeroExtended: Bool
  let host: SecondStageTable
  let guest: TableRoot
  /// I
  let allowsDeviceTLB: Bool
  /// SA
  let suppressesFaults: Bool
  /// SE
  let suppressesRepeatedFaults: Bool

  /// The tag of the address space's translations in the IOTLB.
  let tag: IOTLBTag

  /// - Parameter guest: `nil` without guest tables.
  init(
    _ entry: DeviceTableEntry, of requester: RequesterID, host: SecondStageTable,
    guest: (root: TableRoot, pasid: PASID, isZeroExtended: Bool)?
  ) {
    let hasHost = entry.hostLevels > 0
    self.requester = requester
    self.host = host
    domain = entry.domain
    pasid = guest?.pasid
    isZeroExtended = guest?.isZeroExtended ?? false
    allowsDeviceTLB = entry.allowsDeviceTLB
    suppressesFaults = entry.suppressesFaults
    suppressesRepeatedFaults = entry.suppressesRepeatedFaults
    var allowed: Permissions = []
    if entry.allowsReading {
      allowed.formUnion([.read, .execute, .privilegedRead, .privilegedExecute])
    }
    if entry.allowsWriting { allowed.formUnion(.anyWrite) }
    self.allowed = allowed
    if let guest {
      translationType = hasHost ? .nested : .guest
      self.guest = guest.root
      let tag = IOTLBTag(domain: entry.domain, pasid: guest.pasid)
      self.tag = guest.isZeroExtended ? tag.zeroExtended : tag
    } else {
      translationType = hasHost ? .host : .passThrough
      self.guest = host.root
      tag = IOTLBTag(domain: entry.domain)
    }
  }

  /// Whether guest tables translate the address of the request.
  @inline(__always)
  var hasGuest: Bool { translationType == .guest || translationType == .nested }

  /// The address space as events name it.
  var eventSpace: AMDViEvent.AddressSpace { pasid.map { .pasid($0) } ?? .domain(domain) }
}

extension IOTLBTag {
  private static let zeroExtendedBit: UInt64 = 1 << 17

  /// The tag for zero-extended addresses of the same PASID. An upper-half address of a
  /// zero-extended space is not canonical in a sign-extended one, so their translations must not be
  /// shared.
  fileprivate var zeroExtended: IOTLBTag { IOTLBTag(rawValue: rawValue | Self.zeroExtendedBit) }

  /// The tag of the PASID for sign-extended addresses, by which invalidations select both kinds.
  var withoutExtension: IOTLBTag { IOTLBTag(rawValue: rawValue & ~Self.zeroExtendedBit) }
}

/// The attributes of the leaf entry from which an IOTLB entry was made, in the attribute bits of an
/// entry: the page size that software sees. The cached page may be a piece of that page.
struct AMDViLeafAttributes {
  let attributes: UInt16

  init(shift: Int) { attributes = UInt16(truncatingIfNeeded: shift) & 0x3f }
  init(_ attributes: UInt16) { self.attributes = attributes }

  /// log2 of the page size.
  var shift: Int { Int(attributes & 0x3f) }

  /// Returns whether the page that contains `address` intersects `range`.
  func intersects(_ range: AMDViPageRange, at address: UInt64) -> Bool {
    range.intersects((address >> UInt64(shift)) << UInt64(shift), shift: shift)
  }
}

// What a device table entry, and with guest tables a GCR3 entry, mean for requests: cached by device and
// PASID.

struct AMDViAddressSpace: BitwiseCopyable {
  enum Path: UInt8, BitwiseCopyable {
    /// Addresses are physical ones.
    case passThrough
    case host
    case guest
    /// A guest's tables on top of the host's.
    case nested
  }

  let path: Path
  let device: RequesterID
  let domain: DomainID
  /// Of the guest tables; 0 for requests without PASID that go through them.
  let pasid: PASID?
  /// IR and IW.
  let allowed: Permissions
  /// Addresses are not sign-extended: those of requests without PASID.
  let isFlat: Bool
  let host: SecondStageTable
  let guest: TableRoot
  /// I
  let allowsDeviceTLB: Bool
  /// SA; SE.
  let suppressesFaults: Bool
  let suppressesRepeatedFaults: Bool

  /// Of its translations in the IOTLB.
  let tag: IOTLBTag

  /// - Parameter guest: nil: there is no guest table.
  init(
    _ entry: DeviceTableEntry, of device: RequesterID, host: SecondStageTable,
    guest: (root: TableRoot, pasid: PASID, isFlat: Bool)?
  ) {
    let hasHost = entry.hostLevels > 0
    self.device = device
    self.host = host
    domain = entry.domain
    pasid = guest?.pasid
    isFlat = guest?.isFlat ?? false
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
      path = hasHost ? .nested : .guest
      self.guest = guest.root
      let tag = IOTLBTag(domain: entry.domain, pasid: guest.pasid)
      self.tag = guest.isFlat ? tag.flat : tag
    } else {
      path = hasHost ? .host : .passThrough
      self.guest = host.root
      tag = IOTLBTag(domain: entry.domain)
    }
  }

  /// Guest tables come first.
  @inline(__always)
  var hasGuest: Bool { path == .guest || path == .nested }

  /// How events name it.
  var subject: AMDViEvent.Subject { pasid.map { .pasid($0) } ?? .domain(domain) }
}

extension IOTLBTag {
  private static let flatBit: UInt64 = 1 << 17

  /// Of the same PASID, for addresses that are not sign-extended: not every one of those is one of the
  /// others.
  fileprivate var flat: IOTLBTag { IOTLBTag(rawValue: rawValue | Self.flatBit) }

  /// Of the PASID, whatever its addresses are.
  var ofAllAddresses: IOTLBTag { IOTLBTag(rawValue: rawValue & ~Self.flatBit) }
}

/// What the unit keeps with a translation in the IOTLB: the size of the page that software knows, of
/// which the cached one may be a piece.
struct AMDViCachedPage {
  let attributes: UInt16

  init(shift: Int) { attributes = UInt16(truncatingIfNeeded: shift) & 0x3f }
  init(_ attributes: UInt16) { self.attributes = attributes }

  var shift: Int { Int(attributes & 0x3f) }

  /// Whether an invalidation of `range` is about the page that holds `address`.
  func isTouched(by range: AMDViPageRange, at address: UInt64) -> Bool {
    range.intersects((address >> UInt64(shift)) << UInt64(shift), shift: shift)
  }
}

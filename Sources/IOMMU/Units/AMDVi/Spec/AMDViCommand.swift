// SPDX-License-Identifier: Apache-2.0

/// §2.4 Commands: one entry of the command buffer, 128 bits.
package struct AMDViCommand: Sendable {
  package enum Opcode: UInt64, Sendable {
    /// COMPLETION_WAIT
    case completionWait = 1
    /// INVALIDATE_DEVTAB_ENTRY
    case invalidateDeviceTableEntry = 2
    /// INVALIDATE_IOMMU_PAGES
    case invalidatePages = 3
    /// INVALIDATE_IOTLB_PAGES
    case invalidateDeviceTLB = 4
    /// INVALIDATE_INTERRUPT_TABLE
    case invalidateInterruptTable = 5
    /// PREFETCH_IOMMU_PAGES
    case prefetchPages = 6
    /// COMPLETE_PPR_REQUEST
    case completePageRequest = 7
    /// INVALIDATE_IOMMU_ALL
    case invalidateAll = 8
  }

  package var words: InlineArray<2, UInt64>

  package init(words: InlineArray<2, UInt64> = .init(repeating: 0)) { self.words = words }

  private init(_ opcode: Opcode) {
    self.init()
    words[63, 60] = opcode.rawValue
  }

  /// [63:60]; `nil` for an opcode that the unit does not support.
  package var opcode: Opcode? { Opcode(rawValue: words[63, 60]) }

  // MARK: COMPLETION_WAIT (§2.4.1)

  /// Makes a command that stores `data` at `address`, a multiple of 8, after the commands before
  /// it.
  package static func completionWait(
    storing data: UInt64, at address: PhysicalAddress
  ) -> Self {
    var command = Self(.completionWait)
    command.words[0] |= address.rawValue & 0x000f_ffff_ffff_fff8 | 1
    command.words[1] = data
    return command
  }

  /// s, [0]
  var stores: Bool { words[bit: 0] }
  /// Store address, [51:3]
  var storeAddress: PhysicalAddress { PhysicalAddress(words[51, 3] << 3) }
  /// Store data, [127:64]
  var data: UInt64 { words[1] }

  // MARK: INVALIDATE_DEVTAB_ENTRY (§2.4.2)

  package static func invalidateDeviceTableEntry(_ device: RequesterID) -> Self {
    var command = Self(.invalidateDeviceTableEntry)
    command.words[15, 0] = UInt64(device.rawValue)
    return command
  }

  /// DeviceID, [15:0]
  var device: RequesterID { RequesterID(rawValue: UInt16(words[15, 0])) }

  // MARK: INVALIDATE_IOMMU_PAGES (§2.4.3)

  /// - Parameters:
  ///   - pasid: `nil` selects host table addresses (GN clear).
  ///   - directories: whether cached entries that are not leaves are removed, too (PDE).
  package static func invalidatePages(
    _ range: AMDViPageRange, of domain: DomainID, pasid: PASID?, directories: Bool
  ) -> Self {
    var command = Self(.invalidatePages)
    command.words[47, 32] = UInt64(domain.rawValue)
    command.words[1] = range.encoded
    command.words[bit: 65] = directories
    if let pasid {
      command.words[19, 0] = UInt64(pasid.rawValue)
      command.words[bit: 66] = true
    }
    return command
  }

  /// DomainID, [47:32]
  var domain: DomainID { DomainID(rawValue: UInt16(words[47, 32])) }
  /// PDE, [65]
  var includesDirectories: Bool { words[bit: 65] }
  /// GN, [66]
  var isForGuest: Bool { words[bit: 66] }
  /// PASID, [19:0], with GN
  var pasid: PASID { PASID(rawValue: UInt32(words[19, 0])) }
  /// S, [64], and Address, [127:76]
  var range: AMDViPageRange { AMDViPageRange(encoded: words[1]) }

  // MARK: INVALIDATE_IOTLB_PAGES (§2.4.4)

  /// Makes a command that invalidates the device TLB of a function.
  package static func invalidateDeviceTLB(
    _ range: AMDViPageRange, of device: RequesterID, pasid: PASID?
  ) -> Self {
    var command = Self(.invalidateDeviceTLB)
    command.words[15, 0] = UInt64(device.rawValue)
    command.words[47, 32] = UInt64(device.rawValue)
    command.words[1] = range.encoded
    if let pasid {
      command.words[23, 16] = UInt64(pasid.rawValue) >> 8
      command.words[55, 48] = UInt64(pasid.rawValue)
      command.words[bit: 66] = true
    }
    return command
  }

  /// PASID [15:8] in [23:16], and PASID [7:0] in [55:48]; `nil` with GN clear.
  var deviceTLBPASID: PASID? {
    isForGuest ? PASID(rawValue: UInt32(words[23, 16] << 8 | words[55, 48])) : nil
  }

  // MARK: COMPLETE_PPR_REQUEST (§2.4.7)

  /// Makes a command that responds to a page request group.
  package static func completePageRequest(
    of device: RequesterID, pasid: PASID?, group: UInt32, _ response: PageResponse
  ) -> Self {
    var command = Self(.completePageRequest)
    command.words[15, 0] = UInt64(device.rawValue)
    command.words[104, 96] = UInt64(group)
    command.words[111, 108] = response.code
    if let pasid {
      command.words[51, 32] = UInt64(pasid.rawValue)
      command.words[bit: 66] = true
    }
    return command
  }

  /// Completion tag, [104:96]
  var pageRequestGroup: UInt32 { UInt32(words[104, 96]) }
  /// Response code, [111:108]
  var pageResponse: PageResponse { PageResponse(code: words[111, 108]) }

  // MARK: INVALIDATE_IOMMU_ALL (§2.4.8)

  package static let invalidateAll = Self(.invalidateAll)
}

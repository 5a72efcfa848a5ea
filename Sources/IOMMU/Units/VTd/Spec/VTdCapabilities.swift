// SPDX-License-Identifier: Apache-2.0

/// The capabilities of one unit: VT-d §11.4.2 Capability Register and §11.4.3 Extended Capability
/// Register.
///
/// The default value describes a unit with second-stage translation only. The kernel's driver then
/// uses second-stage tables for every domain. ``nesting`` describes a unit with all capabilities.
package struct VTdCapabilities: Hashable, Sendable {
  /// MGAW: the number of address bits that a request may use.
  package var maximumGuestAddressWidth = 48
  /// SAGAW, as the possible numbers of levels of second-stage tables.
  package var secondStageLevels: Set<Int> = [4]
  /// SSLPS
  package var has2MPages = true
  package var has1GPages = true
  /// ND: log2 of the number of domains, an even number from 4 to 16.
  package var domainBits = 16
  /// NFR
  package var faultRegisters = 1
  /// PSI and MAMV: a page-selective invalidation covers up to 2^`maximumAddressMask` pages.
  package var maximumAddressMask = 18
  /// CM: the unit may cache not-present entries, so software has to invalidate after a map too.
  package var cachingMode = false

  /// SC: second-stage entries control snooping.
  package var snoopControl = true
  /// PT
  package var passThrough = true
  /// PASID, PSS: the number of PASID bits; 0 when requests cannot carry a PASID.
  package var pasidBits = 20
  /// SSADS: the unit updates accessed and dirty flags of second-stage entries.
  package var secondStageFlags = true
  /// SSTS
  package var secondStage = true
  /// FSTS
  package var firstStage = false
  /// FS5LP: first-stage tables may have 5 levels.
  package var fiveLevelFirstStage = false
  /// FS1GP
  package var firstStage1GPages = false
  /// NEST
  package var nested = false
  /// SRS: requests with PASID may be privileged.
  package var privilegedRequests = false
  /// EAFS
  package var extendedAccessedFlag = false
  /// DT: the unit supports device TLBs.
  package var deviceTLBs = false
  /// PRS, PDS: the unit supports page requests.
  package var pageRequests = false

  package init() {}

  /// A unit that can nest first-stage tables of guests.
  package static var nesting: VTdCapabilities {
    var capabilities = VTdCapabilities()
    capabilities.firstStage = true
    capabilities.fiveLevelFirstStage = true
    capabilities.firstStage1GPages = true
    capabilities.nested = true
    capabilities.privilegedRequests = true
    capabilities.extendedAccessedFlag = true
    capabilities.deviceTLBs = true
    capabilities.pageRequests = true
    return capabilities
  }

  /// CAP_REG, offset 0x8.
  package var capability: UInt64 {
    var value = UInt64(max(0, domainBits - 4) / 2)
    if cachingMode { value |= 1 << 7 }
    for levels in secondStageLevels { value |= 1 << UInt64(8 + levels - 2) }
    value |= UInt64(maximumGuestAddressWidth - 1) << 16
    value |= 1 << 22  // ZLR
    value |= 0x22 << 24  // FRO: fault recording registers at 0x220
    if has2MPages { value |= 1 << 34 }
    if has1GPages { value |= 1 << 35 }
    value |= 1 << 39  // PSI
    value |= UInt64(faultRegisters - 1) << 40
    value |= UInt64(maximumAddressMask) << 48
    value |= 3 << 54  // DWD, DRD: an invalidation drains writes and reads
    if firstStage1GPages { value |= 1 << 56 }
    if fiveLevelFirstStage { value |= 1 << 60 }
    return value
  }

  /// ECAP_REG, offset 0x10.
  package var extendedCapability: UInt64 {
    var value: UInt64 = 1 << 0 | 1 << 1  // C, QI
    if deviceTLBs { value |= 1 << 2 }
    if passThrough { value |= 1 << 6 }
    if snoopControl { value |= 1 << 7 }
    value |= 0x50 << 8  // IRO: IOTLB registers at 0x500
    value |= 0xf << 20  // MHMV
    if nested { value |= 1 << 26 }
    if pageRequests { value |= 1 << 29 | 1 << 42 }
    if privilegedRequests { value |= 1 << 31 }
    if extendedAccessedFlag { value |= 1 << 34 }
    if pasidBits > 0 { value |= 1 << 40 | UInt64(pasidBits - 1) << 35 }
    value |= 1 << 43  // SMTS
    if secondStageFlags { value |= 1 << 45 }
    if secondStage { value |= 1 << 46 }
    if firstStage { value |= 1 << 47 }
    value |= 1 << 48  // SMPWCS
    return value
  }
}

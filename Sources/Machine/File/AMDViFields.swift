// SPDX-License-Identifier: Apache-2.0

// The keys of a unit of kind amdvi.

internal import IOMMU
internal import IOMMUFD

extension AMDViDriver.Configuration {
  static var fields: [Field<AMDViDriver.Configuration>] {
    [
      .choice(
        "guest-tables", \.guestTableInterface,
        ["kernel": .kernel, "uapi": .uapi],
        "nesting of guest page tables: EOPNOTSUPP as in Linux 7.3, or as the uAPI describes it")
    ] + AMDViUnit.Configuration.fields.map { $0.within(\.unit) }
  }
}

extension AMDViUnit.Configuration {
  fileprivate static var fields: [Field<AMDViUnit.Configuration>] {
    AMDViCapabilities.fields.map { $0.within(\.capabilities) }
      + IOTLBGeometry.fields.map { $0.within(\.iotlb) } + [
        .number(
          "device-cache-sets", \.deviceCacheSets, 1...65536,
          "sets of the device table cache, 4 entries each"),
        .number(
          "space-cache-sets", \.spaceCacheSets, 1...65536,
          "sets of the cache of address spaces by device ID and PASID, 4 entries each"),
        .number(
          "paging-structure-entries", \.pagingStructureEntries, 0...4096,
          "entries of the cache of guest page directory entries; 0: no cache"),
      ]
  }
}

extension AMDViCapabilities {
  /// AMD 48882 §3.4.7
  fileprivate static var fields: [Field<AMDViCapabilities>] {
    [
      .number("host-levels", \.hostLevels, 4...6, "levels of host page tables, at most (EFR.HATS)"),
      .flag(
        "host-flags", \.hostFlags, "accessed and dirty bits in host tables (EFR.HASup, HDSup)"),
      .flag("guest-translation", \.guestTranslation, "guest page tables (EFR.GTSup)"),
      .number(
        "guest-levels", \.guestLevels, 4...5, "levels of guest page tables, at most (EFR.GATS)"),
      .number(
        "guest-cr3-levels", \.guestCR3Levels, 0...2,
        "levels of GCR3 tables after the first, at most (EFR.GLXSup)"),
      .number("pasid-bits", \.pasidBits, 1...16, "log2 of the PASIDs (EFR.PASmax)"),
      .flag("guest-io", \.guestIO, "guest page tables for requests without PASID (EFR.GIoSup)"),
      .flag("no-execute", \.noExecute, "the no-execute bit in guest page tables (EFR.NXSup)"),
      .flag(
        "page-requests", \.pageRequests, "page requests; PASIDs need them (EFR.PPRSup, EPHSup)"),
      .flag("device-tlbs", \.deviceTLBs, "device TLBs (IotlbSup)"),
      .flag("invalidate-all", \.invalidateAll, "INVALIDATE_IOMMU_ALL (EFR.IASup)"),
      .flag(
        "nested-guest-cr3", \.nestedGuestCR3,
        "GCR3 tables at guest-physical addresses (EFR2.GCR3TRPMode)"),
      .flag(
        "ignore-hypertransport-range", \.ignoresHyperTransportRange,
        "no reserved HyperTransport range below 1 TiB (EFR2.HTRangeIgnore)"),
      .number(
        "event-log-bits", \.eventLogBits, 8...15, "log2 of the event log's entries (EventLen)"),
    ]
  }
}

// The keys of AMD-Vi units.

internal import IOMMU
internal import IOMMUFD

extension MachineDescription.AMDVi {
  static var fields: [Field<MachineDescription.AMDVi>] {
    [
      .choice(
        "guest-tables", \.guestTables,
        ["kernel": .asKernel, "uapi": .asUAPI],
        "nesting of a guest's: EOPNOTSUPP as in Linux 7.3, or as the uAPI describes it")
    ] + AMDViUnit.Configuration.fields.map { $0.within(\.unit) }
  }
}

extension AMDViUnit.Configuration {
  fileprivate static var fields: [Field<AMDViUnit.Configuration>] {
    AMDViCapabilities.fields.map { $0.within(\.capabilities) }
      + IOTLBGeometry.fields.map { $0.within(\.iotlb) } + [
        .number("device-cache-sets", \.deviceCacheSets, 1...65536, "of 4 entries each"),
        .number("space-cache-sets", \.spaceCacheSets, 1...65536, "of 4 entries each"),
        .number(
          "paging-structure-entries", \.pagingStructureEntries, 0...4096,
          "of the cache of guest table entries; 0: none"),
      ]
  }
}

extension AMDViCapabilities {
  /// 48882 §3.4.7
  fileprivate static var fields: [Field<AMDViCapabilities>] {
    [
      .number("host-levels", \.hostLevels, 4...6, "of host tables, at most (EFR.HATS)"),
      .flag("host-flags", \.hostFlags, "accessed and dirty flags there (EFR.HASup, HDSup)"),
      .flag("guest-translation", \.guestTranslation, "guest tables (EFR.GTSup)"),
      .number("guest-levels", \.guestLevels, 4...5, "of guest tables, at most (EFR.GATS)"),
      .number(
        "guest-cr3-levels", \.guestCR3Levels, 0...2,
        "of GCR3 tables behind the first, at most (EFR.GLXSup)"),
      .number("pasid-bits", \.pasidBits, 1...16, "log2 of the PASIDs (EFR.PASmax)"),
      .flag("guest-io", \.guestIO, "guest tables for requests without PASID (EFR.GIoSup)"),
      .flag("no-execute", \.noExecute, "the no-execute flag of guest entries (EFR.NXSup)"),
      .flag("page-requests", \.pageRequests, "what PASIDs need, too (EFR.PPRSup, EPHSup)"),
      .flag("device-tlbs", \.deviceTLBs, "devices may translate for themselves (IotlbSup)"),
      .flag("invalidate-all", \.invalidateAll, "INVALIDATE_IOMMU_ALL (EFR.IASup)"),
      .flag(
        "nested-guest-cr3", \.nestedGuestCR3,
        "GCR3 tables at guest addresses (EFR2.GCR3TRPMode)"),
      .flag(
        "ignore-hypertransport-range", \.ignoresHyperTransportRange,
        "no reserved addresses below 1 TiB (EFR2.HTRangeIgnore)"),
      .number("event-log-bits", \.eventLogBits, 8...15, "log2 of its entries (EventLen)"),
    ]
  }
}

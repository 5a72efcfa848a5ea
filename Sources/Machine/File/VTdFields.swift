// SPDX-License-Identifier: Apache-2.0

// The keys of a unit of kind vtd.

internal import IOMMU

extension VTdUnit.Configuration {
  static var fields: [Field<VTdUnit.Configuration>] {
    VTdCapabilities.fields.map { $0.within(\.capabilities) }
      + IOTLBGeometry.fields.map { $0.within(\.iotlb) } + [
        .number(
          "context-cache-sets", \.contextCacheSets, 1...65536,
          "sets of the context cache, 4 entries each"),
        .number(
          "pasid-cache-sets", \.pasidCacheSets, 1...65536,
          "sets of the PASID cache, 4 entries each"),
        .number(
          "paging-structure-entries", \.pagingStructureEntries, 0...4096,
          "entries of the first-stage paging-structure cache; 0: no cache"),
        .flag(
          "read-only-erratum", \.hasReadOnlyErratum,
          "nesting parents have no read-only pages (ERRATA_772415_SPR17)"),
      ]
  }
}

extension VTdCapabilities {
  /// VT-d §11.4.2, §11.4.3
  fileprivate static var fields: [Field<VTdCapabilities>] {
    [
      .number(
        "address-width", \.maximumGuestAddressWidth, 39...57,
        "bits of the address of a request (MGAW)"),
      .numbers(
        "second-stage-levels", \.secondStageLevels, of: [3, 4, 5], canBeEmpty: true,
        "levels of second-stage tables (SAGAW)"),
      .flag("pages-2m", \.has2MPages, "second-stage pages of 2 MiB (SSLPS)"),
      .flag("pages-1g", \.has1GPages, "second-stage pages of 1 GiB (SSLPS)"),
      .number("domain-bits", \.domainBits, 4...16, "log2 of the domain IDs, an even number (ND)"),
      .number(
        "fault-registers", \.faultRegisters, 1...256, "number of fault recording registers (NFR)"),
      .number(
        "maximum-address-mask", \.maximumAddressMask, 0...18,
        "log2 of the pages of one page-selective invalidation, at most (MAMV)"),
      .flag("caching-mode", \.cachingMode, "not-present entries can be cached (CM)"),
      .flag("snoop-control", \.snoopControl, "page tables can force coherent DMA (SC)"),
      .flag("pass-through", \.passThrough, "DMA without translation (PT)"),
      .number("pasid-bits", \.pasidBits, 0...20, "log2 of the PASIDs; 0: no PASIDs (PASID, PSS)"),
      .flag(
        "second-stage-dirty", \.secondStageFlags,
        "accessed and dirty bits in second-stage tables (SSADS)"),
      .flag("second-stage", \.secondStage, "second-stage tables (SSTS)"),
      .flag("first-stage", \.firstStage, "first-stage tables (FSTS)"),
      .flag("five-levels", \.fiveLevelFirstStage, "first-stage tables of 5 levels (FS5LP)"),
      .flag("first-stage-1g", \.firstStage1GPages, "first-stage pages of 1 GiB (FS1GP)"),
      .flag("nested", \.nested, "first-stage tables nested on second-stage tables (NEST)"),
      .flag(
        "privileged-requests", \.privilegedRequests, "requests with privileged permission (SRS)"),
      .flag("extended-accessed", \.extendedAccessedFlag, "extended-accessed bits (EAFS)"),
      .flag("device-tlbs", \.deviceTLBs, "device TLBs (DT)"),
      .flag("page-requests", \.pageRequests, "page requests (PRS, PDS)"),
    ]
  }
}

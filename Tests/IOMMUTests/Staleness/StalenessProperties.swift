// SPDX-License-Identifier: Apache-2.0

import Foundation
import TestSupport
import Testing

@testable import IOMMU

// The caches of the units against a model of the translations that can be stale. A case depends
// only on its seed, which a failure prints. A run has a few cases of each kind unless
// IOMMUFD_SIM_CACHE_CASES has another number (`scripts/test walks`).

@Suite struct StalenessProperties {
  private static let steps = 2_500

  /// The size of the caches. Large caches replace nothing, and small caches replace nearly every
  /// entry.
  private enum Size: CaseIterable {
    case large, small

    var sets: Int { self == .large ? 1024 : 1 }
    var iotlb: IOTLBGeometry {
      var geometry = IOTLBGeometry()
      (geometry.sets4K, geometry.sets2M, geometry.sets1G) = (sets, sets, sets)
      return geometry
    }
    /// The size of the paging-structure cache. Small caches have few entries or none.
    func structures(_ seed: UInt64) -> Int { self == .large ? 1024 : Int(seed % 3) }
  }

  private static var seeds: ClosedRange<UInt64> {
    let asked = ProcessInfo.processInfo.environment["IOMMUFD_SIM_CACHE_CASES"]
    return 1...max(1, asked.flatMap(UInt64.init) ?? 6)
  }

  /// Runs cases until one has an answer that is not possible.
  private func explore<Fixture: StalenessFixture>(
    _ name: String, _ make: (Size, _ seed: UInt64) throws -> Fixture
  ) throws {
    for seed in Self.seeds {
      for size in Size.allCases {
        for usesATS in [false, true] {
          var random = SeededGenerator(seed: seed)
          var fixture = try make(size, seed)
          let problem = fixture.run(
            Self.steps, &random, usesATS: usesATS, isExact: size == .large)
          if let problem {
            Issue.record(
              "\(name), \(size) caches, \(usesATS ? "with" : "without") ATS, seed \(seed): \(problem)"
            )
            return
          }
        }
      }
    }
  }

  @Test("VT-d", arguments: [false, true])
  func vtd(isNested: Bool) throws {
    try explore("VT-d, \(isNested ? "nested" : "first stage")") { size, seed in
      var configuration = VTdUnit.Configuration.nesting
      configuration.iotlb = size.iotlb
      configuration.contextCacheSets = size.sets
      configuration.pasidCacheSets = size.sets
      configuration.pagingStructureEntries = size.structures(seed)
      return try VTdStalenessFixture(configuration, isNested: isNested)
    }
  }

  @Test("AMD-Vi", arguments: [false, true])
  func amdvi(isNested: Bool) throws {
    try explore("AMD-Vi, \(isNested ? "nested" : "guest tables")") { size, seed in
      var configuration = AMDViUnit.Configuration()
      configuration.iotlb = size.iotlb
      configuration.deviceCacheSets = size.sets
      configuration.spaceCacheSets = size.sets
      configuration.pagingStructureEntries = size.structures(seed)
      return try AMDViStalenessFixture(configuration, isNested: isNested)
    }
  }

  @Test("SMMUv3") func smmuv3() throws {
    try explore("SMMUv3") { size, _ in
      var configuration = SMMUv3Unit.Configuration()
      configuration.iotlb = size.iotlb
      configuration.streamCacheSets = size.sets
      configuration.contextCacheSets = size.sets
      return try SMMUv3StalenessFixture(configuration)
    }
  }
}

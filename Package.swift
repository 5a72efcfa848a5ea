// swift-tools-version: 6.2
// SPDX-License-Identifier: Apache-2.0
//
// A target depends only on targets above it (docs/ARCHITECTURE.md, "Modules and their imports").
//
// The versions are exact and no library depends on another library, so this file determines
// Package.resolved completely.
import PackageDescription

let log = Target.Dependency.product(name: "Logging", package: "swift-log")
let system = Target.Dependency.product(name: "SystemPackage", package: "swift-system")
let argumentParser = Target.Dependency.product(
  name: "ArgumentParser", package: "swift-argument-parser")
let deque = Target.Dependency.product(name: "DequeModule", package: "swift-collections")
let yams = Target.Dependency.product(name: "Yams", package: "Yams")
let heap = Target.Dependency.product(name: "HeapModule", package: "swift-collections")

let package = Package(
  name: "iommufd-sim",
  products: [
    .executable(name: "iommufd-sim", targets: ["iommufd-sim"]),
    .executable(name: "iommufdctl", targets: ["iommufdctl"]),
  ],
  dependencies: [
    .package(url: "https://github.com/apple/swift-argument-parser", exact: "1.8.2"),
    .package(url: "https://github.com/apple/swift-collections", exact: "1.6.0"),
    .package(url: "https://github.com/apple/swift-log", exact: "1.16.2"),
    .package(url: "https://github.com/apple/swift-system", exact: "1.8.1"),
    .package(url: "https://github.com/jpsim/Yams", exact: "6.2.2"),
  ],
  targets: [
    // C targets without logic: the uAPI headers, and system interfaces that Swift cannot import.
    .target(name: "CUAPI"),
    .target(name: "CLinux"),
    .systemLibrary(name: "CFuse3", pkgConfig: "fuse3", providers: [.apt(["libfuse3-dev"])]),

    // Processes, memory and file descriptors of the host.
    .target(name: "Host", dependencies: ["CLinux", system]),

    // UAPI is the interface to clients, IOMMU the hardware. IOMMUFD, the object model, connects
    // the two.
    .target(name: "UAPI", dependencies: ["CUAPI", "CLinux", "Host", system]),
    .target(name: "IOMMU", dependencies: ["CLinux", "Host", system]),
    .target(
      name: "IOMMUFD",
      dependencies: ["CUAPI", "UAPI", "IOMMU", "Host", system, deque, heap, log]),
    .target(name: "PCI", dependencies: ["IOMMU"]),
    .target(
      name: "VFIO",
      dependencies: ["UAPI", "CUAPI", "IOMMU", "IOMMUFD", "PCI", "Host", system]),
    .target(name: "Machine", dependencies: ["UAPI", "IOMMU", "IOMMUFD", "PCI", "VFIO", log, yams]),

    // The front ends turn kernel events into calls on a CharacterDevice. FrontEnd has the code that
    // both share.
    .target(name: "FrontEnd", dependencies: ["UAPI", "CLinux", "Host", system, deque]),
    .target(
      name: "CUSEFront",
      dependencies: ["FrontEnd", "UAPI", "CFuse3", "CLinux", "Host", system, deque, log]),
    .target(
      name: "LauncherFront",
      dependencies: ["FrontEnd", "UAPI", "CLinux", "Host", system, deque, heap, log]),

    .executableTarget(
      name: "iommufd-sim",
      dependencies: [
        "Machine", "UAPI", "IOMMU", "IOMMUFD", "CUSEFront", "LauncherFront", "Host",
        argumentParser, system, log,
      ]),
    .executableTarget(
      name: "iommufdctl", dependencies: ["CLinux", "CUAPI", "UAPI", "Host", argumentParser, system]),

    .target(name: "CYardstick"),
    .executableTarget(
      name: "iommufd-bench",
      dependencies: [
        "UAPI", "CUAPI", "IOMMU", "IOMMUFD", "Host", "CLinux", "CYardstick", system,
      ]),

    // A front end for tests: the test itself is the client, in the same process.
    .target(
      name: "TestSupport",
      dependencies: [
        "Machine", "VFIO", "UAPI", "CUAPI", "IOMMU", "IOMMUFD", "PCI", "Host", "CLinux", system,
      ],
      path: "Tests/TestSupport"),
    .testTarget(name: "IommufdctlTests", dependencies: ["iommufdctl", argumentParser]),
    // Devices that report the calls they receive, under the launcher and over CUSE, for
    // scripts/dev/test/launcher and scripts/dev/test/cuse.
    .executableTarget(
      name: "front-test-server",
      dependencies: [
        "CUSEFront", "LauncherFront", "UAPI", "Host", argumentParser, system, log,
      ],
      path: "Tests/FrontTestServer"),
    .testTarget(
      name: "LauncherFrontTests",
      dependencies: ["LauncherFront", "FrontEnd", "CLinux", "UAPI", "Host", "TestSupport", system]),
    .testTarget(
      name: "CUSEFrontTests",
      dependencies: ["CUSEFront", "FrontEnd", "UAPI", "Host", "TestSupport", system]),
    .testTarget(name: "FrontEndTests", dependencies: ["FrontEnd", "UAPI", "Host", system]),
    .testTarget(name: "HostTests", dependencies: ["Host", "TestSupport", system]),
    // The ioctl catalogue as text; for scripts/dev/check/uapi.
    .executableTarget(
      name: "catalogue-facts", dependencies: ["UAPI"], path: "Tests/CatalogueFacts"),
    .testTarget(name: "UAPITests", dependencies: ["CUAPI", "UAPI", "TestSupport", system]),
    // The hardware without the drivers.
    .testTarget(
      name: "IOMMUTests", dependencies: ["IOMMU", "Host", "CLinux", system, "TestSupport"]),
    // The vendors' drivers, each with its unit and without the objects of iommufd.
    .testTarget(
      name: "DriverTests",
      dependencies: ["CUAPI", "UAPI", "IOMMU", "IOMMUFD", "Host", system, "TestSupport"]),
    .testTarget(
      name: "IOMMUFDTests",
      dependencies: ["CUAPI", "UAPI", "IOMMU", "IOMMUFD", "TestSupport", "Host", system]),
    .testTarget(
      name: "MachineTests",
      dependencies: [
        "Machine", "VFIO", "PCI", "IOMMU", "IOMMUFD", "UAPI", system, "TestSupport",
      ]),
    .testTarget(name: "PCITests", dependencies: ["PCI", "IOMMU", "TestSupport"]),
    .testTarget(
      name: "VFIOTests",
      dependencies: [
        "VFIO", "PCI", "IOMMU", "IOMMUFD", "Machine", "UAPI", "CUAPI", "CLinux", "Host", system,
        "TestSupport",
      ]),
    // DMA of the devices of a whole machine, from ioctls to the client's memory.
    .testTarget(
      name: "EndToEndTests",
      dependencies: [
        "VFIO", "PCI", "IOMMU", "IOMMUFD", "Machine", "UAPI", "CUAPI", system, "TestSupport",
      ]),
  ],
  cLanguageStandard: .gnu11
)

// Warnings are errors only when CI_STRICT=1, which `scripts/test` sets.
let strict = Context.environment["CI_STRICT"] == "1"
for target in package.targets where target.type != .system {
  let isC = target.name.hasPrefix("C") && target.name != "CUSEFront"
  if isC {
    target.cSettings = [.unsafeFlags(["-Wall", "-Wextra"] + (strict ? ["-Werror"] : []))]
  } else {
    target.swiftSettings =
      [
        .swiftLanguageMode(.v6),
        .enableUpcomingFeature("ExistentialAny"),
        .enableUpcomingFeature("MemberImportVisibility"),
        .enableUpcomingFeature("InternalImportsByDefault"),
      ] + (strict ? [.unsafeFlags(["-warnings-as-errors"])] : [])
  }
}

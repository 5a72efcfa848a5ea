// swift-tools-version: 6.1
// The targets in the order of DESIGN's arrows: a target may depend only on what stands above it.
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
    .package(url: "https://github.com/apple/swift-argument-parser", from: "1.8.2"),
    .package(url: "https://github.com/apple/swift-collections", from: "1.6.0"),
    .package(url: "https://github.com/apple/swift-log", from: "1.16.2"),
    .package(url: "https://github.com/apple/swift-system", from: "1.8.1"),
    .package(url: "https://github.com/jpsim/Yams", from: "6.2.2"),
  ],
  targets: [
    // C: the wire's headers, and what Swift cannot spell. No logic.
    .target(name: "CUAPI"),
    .target(name: "CLinux"),
    .systemLibrary(name: "CFuse3", pkgConfig: "fuse3", providers: [.apt(["libfuse3-dev"])]),

    // The host's own processes, memory and descriptors.
    .target(name: "Host", dependencies: ["CLinux", system]),

    // Two leaves, the wire and the hardware, joined by the object model.
    .target(name: "UAPI", dependencies: ["CUAPI", "Host", system]),
    .target(name: "IOMMU", dependencies: ["CLinux", "Host", system]),
    .target(
      name: "IOMMUFD",
      dependencies: ["CUAPI", "UAPI", "IOMMU", "Host", system, deque, heap, log]),
    .target(name: "PCI", dependencies: ["IOMMU"]),
    .target(
      name: "VFIO",
      dependencies: ["UAPI", "CUAPI", "IOMMU", "IOMMUFD", "PCI", "Host", system]),
    .target(name: "Machine", dependencies: ["UAPI", "IOMMU", "IOMMUFD", "PCI", "VFIO", log, yams]),

    // A kernel event becomes a call on a CharacterDevice.
    .target(
      name: "CUSEFront", dependencies: ["UAPI", "CFuse3", "CLinux", "Host", system, deque, log]),
    .target(name: "LauncherFront", dependencies: ["UAPI", "CLinux", "Host", system, log]),

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

    // An in-process front end: the test is the client.
    .target(
      name: "TestSupport",
      dependencies: ["Machine", "UAPI", "IOMMU", "IOMMUFD", "PCI", "Host", system],
      path: "Tests/TestSupport"),
    .testTarget(name: "IommufdctlTests", dependencies: ["iommufdctl", argumentParser]),
    // A launcher with devices that show how calls are delivered; for scripts/test-launcher.
    .executableTarget(
      name: "launcher-test-server",
      dependencies: ["LauncherFront", "UAPI", "Host", system, log],
      path: "Tests/LauncherTestServer"),
    .testTarget(
      name: "LauncherFrontTests",
      dependencies: ["LauncherFront", "CLinux", "UAPI", "Host", "TestSupport", system]),
    .executableTarget(
      name: "cuse-testserver", dependencies: ["CUSEFront", "UAPI", "Host", system, log],
      path: "Tests/CUSETestServer"),
    .testTarget(name: "CUSEFrontTests", dependencies: ["CUSEFront", "UAPI", "Host", system]),
    .testTarget(name: "HostTests", dependencies: ["Host", "TestSupport", system]),
    // The ioctl catalogue as text; for scripts/check-uapi.
    .executableTarget(
      name: "catalogue-facts", dependencies: ["UAPI"], path: "Tests/CatalogueFacts"),
    .testTarget(name: "UAPITests", dependencies: ["CUAPI", "UAPI", "TestSupport", system]),
    .testTarget(
      name: "IOMMUTests",
      dependencies: [
        "CUAPI", "UAPI", "IOMMU", "IOMMUFD", "Host", "CLinux", system, "TestSupport",
      ]),
    .testTarget(
      name: "IOMMUFDTests",
      dependencies: ["CUAPI", "UAPI", "IOMMU", "IOMMUFD", "TestSupport", "Host", system]),
    .testTarget(
      name: "MachineTests", dependencies: ["Machine", "IOMMU", "IOMMUFD", "TestSupport"]),
    .testTarget(name: "PCITests", dependencies: ["PCI", "IOMMU", "TestSupport"]),
    .testTarget(
      name: "VFIOTests",
      dependencies: [
        "VFIO", "PCI", "IOMMU", "IOMMUFD", "Machine", "UAPI", "CUAPI", "CLinux", "Host", system,
        "TestSupport",
      ]),
  ],
  cLanguageStandard: .gnu11
)

// `scripts/test` sets CI_STRICT=1: there a warning is an error, on a user's machine it is not.
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

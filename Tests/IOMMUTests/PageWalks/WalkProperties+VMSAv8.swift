import Testing

@testable import IOMMU

/// VMSAv8-64 of both stages and all granules against the reference.
@Suite struct WalkPropertiesVMSAv8 {
  private let machine: WalkMachine
  private var memory: PhysicalMemory { machine.memory }

  init() throws { machine = try WalkMachine(unit: 16, worlds: 24) }

  private func entry(
    _ world: inout WalkWorld, _ frame: UInt64, isWide: Bool
  ) -> UInt64 {
    var entry = world.target(WalkWorld.framesBelow(frame))
    entry |= world.random.next() & 0x3fc
    if isWide { entry &= ~0xf300 }
    if !world.rarely(24) { entry |= 1 }
    if !world.rarely(8) { entry |= 2 }
    if !world.rarely(12) { entry |= 1 << 10 }
    if !world.rarely(3) { entry = entry | 1 << 6 }
    if frame < 16 && !world.rarely(8) { entry |= 1 << 7 }
    if world.rarely(3) { entry |= (world.random.next() & 0xf) << 51 }
    if world.rarely(6) { entry |= (world.random.next() & 0xf) << 59 }
    if world.rarely(60) { entry |= 1 << (world.random.next() % 64) }
    return entry
  }

  private static func granule(_ shift: Int) -> VMSAv8Table.Granule {
    shift == 12 ? .size4K : shift == 14 ? .size16K : .size64K
  }

  private func options(_ reference: ReferenceVMSAv8) -> WalkOptions {
    var options: WalkOptions = []
    if reference.ha { options.insert(.setsAccessFlag) }
    if reference.hd { options.insert(.setsDirtyState) }
    if reference.affd { options.insert(.ignoresAccessFlag) }
    if reference.hpd { options.insert(.ignoresHierarchicalPermissions) }
    if reference.wxn { options.insert(.writableIsNotExecutable) }
    if reference.onePrivilege { options.insert(.onePrivilege) }
    if reference.wide { options.insert(.wideAddresses) }
    return options
  }

  /// What both stages choose from.
  private func choose(
    _ reference: inout ReferenceVMSAv8, _ world: inout WalkWorld, isWide: Bool
  ) {
    reference.wide = isWide
    reference.outputBits = world.rarely(3) ? 36 : isWide ? 52 : world.rarely(2) ? 42 : 48
    reference.ha = world.rarely(2)
    reference.hd = reference.ha && world.rarely(2)
    reference.affd = world.rarely(4)
  }

  private func chooseStage1(_ reference: inout ReferenceVMSAv8, _ world: inout WalkWorld) {
    reference.inputSize = 16 + Int(world.random.next() % 24)
    reference.hpd = world.rarely(3)
    reference.wxn = world.rarely(3)
    reference.onePrivilege = world.rarely(4)
  }

  /// A consistent start level and input size that the pool's addresses fit in.
  private func chooseStage2(_ reference: inout ReferenceVMSAv8, _ world: inout WalkWorld) {
    reference.isStage2 = true
    repeat {
      reference.inputSize = 16 + Int(world.random.next() % 15)
      reference.startLevel = Int(world.random.next() % 3)
      if reference.wide && reference.granule == 12 && world.rarely(8) {
        reference.startLevel = -1
        reference.inputSize = 12 + Int(world.random.next() % 4)
      }
    } while !reference.isConsistent || (reference.granule == 16 && reference.startLevel < 1)
  }

  private func table1(_ reference: ReferenceVMSAv8, _ root: UInt64) -> VMSAv8Table? {
    VMSAv8Table(
      stage1: PhysicalAddress(root), granule: Self.granule(reference.granule),
      inputSize: reference.inputSize, outputBits: reference.outputBits, minimumSize: 12,
      options: options(reference))
  }

  private func table2(_ reference: ReferenceVMSAv8, _ root: UInt64) -> VMSAv8Table? {
    VMSAv8Table(
      stage2: PhysicalAddress(root), granule: Self.granule(reference.granule),
      inputSize: reference.inputSize, startLevel: reference.startLevel,
      outputBits: reference.outputBits, minimumSize: 12, options: options(reference))
  }

  /// An address whose indexes are in use, mostly.
  private func input(_ world: inout WalkWorld, _ reference: ReferenceVMSAv8) -> UInt64 {
    var address = world.frame() | world.random.next() & 0xffff
    let stride = UInt64(reference.granule - 3)
    var low = UInt64(reference.granule)
    while low < UInt64(reference.inputBits) {
      if !world.rarely(3) {
        let mask = UInt64(1) << stride - 1
        let index = world.rarely(8) ? mask : world.random.next() % 3
        address = address & ~(mask << low) | index << low
      }
      low += stride
    }
    address &= 1 << UInt64(reference.inputBits) - 1
    if reference.isStage2 && world.rarely(40) { address |= 1 << UInt64(reference.inputBits) }
    return address
  }

  /// - Parameter nesting: how the reference's output is translated further.
  private func translate(
    _ world: inout WalkWorld, _ reference: ReferenceVMSAv8, _ root: UInt64,
    under nesting: ReferenceNesting? = nil, ours: (UInt64, Permissions) -> String
  ) -> String? {
    world.translate {
      input(&$0, reference)
    } ours: {
      ours($0, $1)
    } reference: {
      let page = try reference.translate($0, root: root, access: $1)
      return try nesting?.combine(page, $1) ?? page
    }.map { "\($0), \(reference)" }
  }

  @Test(arguments: [12, 14, 16], [false, true])
  func stage1(granule: Int, isWide: Bool) {
    machine.explore(
      "stage 1 of 2^\(granule)",
      outcomes: ["absent 0", "too wide", "unused", "denied 0", "2^\(granule) ", "RWrw", "RX"]
    ) { world in
      world.fill { entry(&$0, $1, isWide: isWide) }
      var reference = ReferenceVMSAv8(stage: world.reference)
      reference.granule = granule
      choose(&reference, &world, isWide: isWide)
      chooseStage1(&reference, &world)
      let root = world.frame()
      guard let table = table1(reference, root) else { return "no table of \(reference)" }
      return translate(&world, reference, root) { address, access in
        var tables = GuestTableMemory(memory)
        return VMSAv8.walk(stage1: table, address, access: access, memory: &tables).text(address)
      }
    }
  }

  @Test(arguments: [12, 14, 16], [false, true])
  func stage2(granule: Int, isWide: Bool) {
    machine.explore(
      "stage 2 of 2^\(granule)",
      outcomes: ["beyond", "absent 0", "too wide", "unused", "denied 0", "2^\(granule) ", "RWrw"]
    ) { world in
      world.fill { entry(&$0, $1, isWide: isWide) }
      var reference = ReferenceVMSAv8(stage: world.reference)
      reference.granule = granule
      choose(&reference, &world, isWide: isWide)
      chooseStage2(&reference, &world)
      let root = world.frame()
      guard let table = table2(reference, root) else { return "no table of \(reference)" }
      return translate(&world, reference, root) { address, access in
        var tables = memory.window
        return VMSAv8.walk(stage2: table, address, access: access, memory: &tables).text(address)
      }
    }
  }

  @Test(arguments: [12, 14, 16], [12, 14, 16])
  func nested(first: Int, second: Int) {
    machine.explore(
      "2^\(first) in 2^\(second)",
      outcomes: ["for entry", "for data", "second absent", "second denied", "absent", "2^"]
    ) { world in
      world.fill { entry(&$0, $1, isWide: false) }
      var host = ReferenceVMSAv8(stage: world.reference)
      host.granule = second
      choose(&host, &world, isWide: false)
      chooseStage2(&host, &world)
      let hostTop = UInt64(3 - host.startLevel)
      let hostRoot = world.frame(hostTop * 4..<hostTop * 4 + 4)
      let nesting = ReferenceNesting(memory: world.reference) { [host] in
        try host.translate($0, root: hostRoot, access: $1)
      }
      var reference = ReferenceVMSAv8(stage: nesting)
      reference.granule = first
      choose(&reference, &world, isWide: false)
      chooseStage1(&reference, &world)
      let root = world.frame(16..<32)
      guard let table = table1(reference, root), let hostTable = table2(host, hostRoot) else {
        return "no table"
      }
      let difference = translate(&world, reference, root, under: nesting) { address, access in
        VMSAv8.walk(
          nested: table, in: hostTable, address, access: access, guest: GuestTableMemory(memory),
          tables: memory.window
        ).text(address)
      }
      return difference.map { "\($0) in \(host)" }
    }
  }
}
